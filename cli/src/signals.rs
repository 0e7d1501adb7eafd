//! Ctrl-C and SIGTERM: once is a wish, twice is an order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::out;

/// The wish to stop, shared by everything that runs.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: watch::Receiver<bool>,
    code: Arc<AtomicU8>,
}

impl Stop {
    /// Begins to listen for signals. `hint` is printed at the first one; at the second the process leaves at once.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen(hint: &'static str) -> std::io::Result<Stop> {
        let (ask, asked) = watch::channel(false);
        let code = Arc::new(AtomicU8::new(0));
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let stop = Stop { asked, code: code.clone() };
        tokio::spawn(async move {
            loop {
                let exit = tokio::select! {
                    Some(()) = interrupt.recv() => 130,
                    Some(()) = terminate.recv() => 143,
                    else => return,
                };
                if *ask.borrow() {
                    std::process::exit(i32::from(exit));
                }
                code.store(exit, Ordering::Relaxed);
                ask.send_replace(true);
                out::note(format_args!("\n{hint}"));
            }
        });
        Ok(stop)
    }

    /// Returns when somebody asked to stop.
    pub async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// 130 after Ctrl-C, 143 after SIGTERM; 0 when nobody asked.
    pub fn exit_code(&self) -> u8 {
        self.code.load(Ordering::Relaxed)
    }
}
