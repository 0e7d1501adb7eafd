//! Where the newest frame waits.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::camera_error::CameraError;

/// A picture of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its place among all that came, from 1.
    pub number: u64,
    /// When it came, counted from the start.
    pub at: Duration,
    /// The JPEG file, as it came.
    pub bytes: Vec<u8>,
}

/// Why no more frames come.
#[derive(Debug)]
pub enum Last {
    /// The stream is over.
    Over,
    /// Somebody asked to stop.
    Stopped,
    /// There is none to be had.
    Failed(CameraError),
}

/// A place for one frame: the newest, unless whoever brings them waits for it to be taken.
#[derive(Debug)]
pub struct Slot {
    begun: Instant,
    waits: bool,
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    newest: Option<Frame>,
    /// How many came.
    count: u64,
    cut: u64,
    last: Option<Last>,
}

impl Slot {
    /// An empty slot. If it `waits`, no frame takes the place of another one.
    pub fn new(waits: bool) -> Self {
        Slot { begun: Instant::now(), waits, inside: Mutex::default(), changed: Condvar::new() }
    }

    /// Brings a frame.
    pub fn put(&self, bytes: Vec<u8>) {
        let mut inside = self.inside.lock();
        while self.waits && inside.newest.is_some() && inside.last.is_none() {
            self.changed.wait(&mut inside);
        }
        inside.count += 1;
        inside.newest = Some(Frame { number: inside.count, at: self.begun.elapsed(), bytes });
        self.changed.notify_all();
    }

    /// Counts a frame that was cut off.
    pub fn put_cut(&self) {
        self.inside.lock().cut += 1;
    }

    /// No more frames come. The first reason counts, but for a wish to stop.
    pub fn end(&self, last: Last) {
        let mut inside = self.inside.lock();
        if inside.last.is_none() || matches!(last, Last::Stopped) {
            inside.last = Some(last);
        }
        self.changed.notify_all();
    }

    /// How many frames have come, and how many more were cut off.
    pub fn counts(&self) -> (u64, u64) {
        let inside = self.inside.lock();
        (inside.count, inside.cut)
    }

    /// Waits for a frame.
    ///
    /// # Errors
    /// When none comes any more; the last one is handed out before, unless somebody asked to stop.
    pub fn take(&self) -> Result<Frame, Last> {
        let mut inside = self.inside.lock();
        loop {
            let stopped = matches!(inside.last, Some(Last::Stopped));
            if let Some(frame) = inside.newest.take_if(|_| !stopped) {
                self.changed.notify_all();
                return Ok(frame);
            }
            if let Some(last) = inside.last.take() {
                return Err(last);
            }
            self.changed.wait(&mut inside);
        }
    }

    /// Waits until `due`. A stream that ends before has no frame that is due.
    pub fn rest(&self, due: Instant) {
        let mut inside = self.inside.lock();
        while inside.last.is_none() {
            if self.changed.wait_until(&mut inside, due).timed_out() {
                return;
            }
        }
        inside.newest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(slot: &Slot) -> Vec<u64> {
        std::iter::from_fn(|| slot.take().ok()).map(|frame| frame.number).collect()
    }

    #[test]
    fn the_newest_frame_is_taken_and_the_last_one_is_not_lost() {
        let slot = Slot::new(false);
        (0..3).for_each(|byte| slot.put(vec![byte]));
        assert_eq!(slot.take().map(|frame| (frame.number, frame.bytes)).ok(), Some((3, vec![2])));
        slot.put(vec![3]);
        slot.put_cut();
        slot.end(Last::Over);
        assert_eq!(numbers(&slot), [4]);
        assert_eq!(slot.counts(), (4, 1));
    }

    #[test]
    fn a_slot_that_waits_loses_none() {
        let slot = Slot::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..50).for_each(|byte| slot.put(vec![byte]));
                slot.end(Last::Over);
            });
            assert_eq!(numbers(&slot), (1..=50).collect::<Vec<u64>>());
        });
    }

    #[test]
    fn whoever_asks_to_stop_comes_first() {
        let slot = Slot::new(false);
        slot.put(vec![]);
        slot.end(Last::Over);
        slot.end(Last::Stopped);
        assert!(matches!(slot.take(), Err(Last::Stopped)));
    }

    #[test]
    fn a_stream_that_ends_has_no_frame_that_is_due() {
        let slot = Slot::new(false);
        slot.put(vec![]);
        slot.rest(Instant::now());
        slot.end(Last::Over);
        let far = Instant::now() + Duration::from_secs(3600);
        slot.rest(far);
        assert!(matches!(slot.take(), Err(Last::Over)));
    }
}
