//! Planning, from what people write to plans and refusals. Data lies in memory but where a path of this machine is
//! meant.

mod changed;
mod fixture;
mod jobs;
mod planners;
mod recipes;
mod spec_files;
mod unchanged;
mod without_data;
