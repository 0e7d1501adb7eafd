//! The binary as its users start it: real processes, real sockets, real files.

mod audit;
mod camera;
mod candle;
mod churn;
mod cluster;
mod commands;
mod containers;
mod data;
mod errors;
mod fault_table;
mod faults;
mod golden;
mod job;
mod kills;
mod learning;
mod liars;
mod limits;
mod members;
mod owners;
mod resume;
mod runs;
mod wrong_machines;
