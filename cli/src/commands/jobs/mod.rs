//! Commands for a coordinator that keeps a queue of jobs. `change` is `stop`, `pause` and `rm`, which ask the same way.

pub mod change;
pub mod get;
pub mod health;
pub mod logs;
pub mod ls;
pub mod submit;
mod view;
pub mod watch;
pub mod workers;
