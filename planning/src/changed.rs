//! What may be set for a run that has begun: where its data lies now, and how long it goes on.

use std::convert::Infallible;
use std::path::Path;

use convoy_common::Plan;
use convoy_common::spec::{self, SpecError, nearest};

use crate::error::PlanningError;
use crate::spec_file::{absolute, text_override};

/// The keys that may be set for a run that has begun.
const MAY_BE_SET: [&str; 5] = ["data.train", "data.validation", "data.images", "network.init", "train.epochs"];

/// The plan of a run that has begun, with `overrides` (`key.path=value`) of the few keys that change no step of it.
/// Relative paths in them start at the current folder.
///
/// # Errors
/// When another key is set, or a value makes no sense. Data is not looked at.
pub fn changed(plan: &Plan, overrides: &[String]) -> Result<Plan, PlanningError> {
    let fail = |error: SpecError| PlanningError::Spec { file: None, error };
    overrides.iter().try_for_each(|given| check_key(given)).map_err(fail)?;
    let mut now = plan.clone();
    let mut said: Vec<String> = plan.spec.paths().into_iter().map(|(key, path)| text_override(key, path)).collect();
    said.push(format!("train.epochs={}", plan.spec.train.epochs));
    said.extend_from_slice(overrides);
    let said = spec::parse("", &said).map_err(fail)?;
    let here = |_: &str, path: &str| Ok::<_, Infallible>(absolute(Path::new(""), path));
    let Ok(said) = said.with_paths(here);
    now.spec.data.train = said.data.train;
    now.spec.data.validation = said.data.validation;
    now.spec.data.images = said.data.images;
    now.spec.network.init = said.network.init;
    now.spec.train.epochs = said.train.epochs;
    now.check().map_err(|text| fail(SpecError::Text { text }))?;
    Ok(now)
}

fn check_key(given: &str) -> Result<(), SpecError> {
    let (key, _) = given.split_once('=').ok_or_else(|| SpecError::Override { given: given.to_owned() })?;
    let key = key.trim();
    if MAY_BE_SET.contains(&key) {
        return Ok(());
    }
    let list = MAY_BE_SET.join(", ");
    let nearest = nearest(key, &MAY_BE_SET).filter(|_| !is_of_a_spec(key));
    let problem = match nearest {
        Some(nearest) => format!("cannot be set for a run that has begun; did you mean `{nearest}`? These can: {list}"),
        None => format!(
            "cannot be set for a run that has begun; these can: {list}. With anything else changed it is a new run: \
             `convoy train SPEC --set ...`, which begins with the model of this one with \
             `--set network.init=RUN/model/model.safetensors`"
        ),
    };
    Err(SpecError::Value { key: key.to_owned(), line: None, problem })
}

/// Whether a spec has the dotted `key`.
fn is_of_a_spec(key: &str) -> bool {
    let unknown = |error: SpecError| matches!(error, SpecError::Text { text } if text.contains("unknown field"));
    !spec::parse("", &["data.train=x".to_owned(), format!("{key}=0")]).is_err_and(unknown)
}
