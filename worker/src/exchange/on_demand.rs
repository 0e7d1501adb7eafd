//! An exchange that begins when it is wanted: most runs have none.

use std::sync::Arc;

use convoy_proto::v1;
use convoy_scheduler::{Lease, OwnersVersion};

use super::{Exchange, ExchangeParts, ExchangeState};
use crate::error::WorkerError;
use crate::node_parts::NodeSender;

/// A worker's part in the exchange of a run, once owners are told of.
pub(crate) struct ExchangeOnDemand {
    parts: ExchangeParts,
    exchange: Option<Exchange>,
}

impl ExchangeOnDemand {
    /// Nobody was told of yet; the exchange will begin with `parts`.
    pub(crate) fn new(parts: ExchangeParts) -> Self {
        ExchangeOnDemand { parts, exchange: None }
    }

    /// Chunks have other owners. What others may ask of this worker from now on.
    ///
    /// # Errors
    /// When the message makes no sense, or a thread cannot be started.
    pub(crate) fn owners(&mut self, owners: v1::Owners) -> Result<&Arc<ExchangeState>, WorkerError> {
        if self.exchange.is_none() {
            self.exchange = Some(Exchange::begin(self.parts.clone())?);
        }
        let exchange = self.exchange.as_mut().expect("it has begun");
        exchange.owners(owners)?;
        Ok(exchange.state())
    }

    /// The exchange, if it has begun.
    pub(crate) fn begun(&mut self) -> Option<&mut Exchange> {
        self.exchange.as_mut()
    }

    /// The version of the owners that this worker knows of.
    pub(crate) fn version(&self) -> OwnersVersion {
        self.exchange.as_ref().map_or(OwnersVersion(0), Exchange::version)
    }

    /// Where the node of `lease` goes as it is computed, if its chunks go to workers.
    pub(crate) fn node(&self, lease: Lease) -> Option<NodeSender> {
        self.exchange.as_ref()?.node(lease)
    }
}
