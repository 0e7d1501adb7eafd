//! Processes that do not outlive who started them.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process that is killed when it is dropped.
pub struct Process(pub Child);

impl Process {
    /// Starts `command`.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn start(command: &mut Command) -> Self {
        Process(command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program())))
    }

    /// Sends `signal`; a process that is gone does not mind.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
            _ = kill_process(pid, signal);
        }
    }

    /// Kills it as `kill -9` does and waits until it is gone; when that was done.
    pub fn kill(&mut self) -> Instant {
        _ = self.0.kill();
        let at = Instant::now();
        _ = self.0.wait();
        at
    }

    /// The exit code, once it has ended; -1 if a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1))
    }

    /// Threads of that name, by number.
    pub fn threads(&self, name: &str) -> Vec<u32> {
        let folder = format!("/proc/{}/task", self.0.id());
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries
            .filter(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|found| found.trim_end() == name));
        named.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Lets it run for `on` of every `on + off`, until `stop` says so.
    pub fn pulse(&self, on: Duration, off: Duration, stop: impl Fn() -> bool) {
        while !stop() {
            self.signal(Signal::STOP);
            std::thread::sleep(off);
            self.signal(Signal::CONT);
            std::thread::sleep(on);
        }
    }

    /// A figure of `/proc/PID/status` in KiB, as `VmRSS`; 0 once it is gone.
    pub fn memory_kib(&self, figure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is stopped dies as well.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
