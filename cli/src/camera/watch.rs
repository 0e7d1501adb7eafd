//! Showing frames to whoever looks at them, at their pace.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Patient;
use super::reader::read;
use super::slot::{Frame, Last, Slot};
use super::source::CameraSource;
use crate::error::CliError;
use crate::signals::Stop;
use crate::time;

/// Which frames are looked at.
#[derive(Debug, Clone, clap::Args)]
pub struct Pace {
    /// Look at one frame in this time, the newest: 0.5s, 200ms, 1m. Without it, as many as can be looked at.
    #[arg(long, value_name = "TIME", value_parser = time::pause, requires = "camera")]
    pub every: Option<Duration>,
    /// End after so many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "camera")]
    pub count: Option<u64>,
    /// Look at every frame and let the camera wait: for recordings.
    #[arg(long, requires = "camera", conflicts_with = "every")]
    pub no_drop: bool,
    /// Seconds for which a camera whose stream broke is asked again; without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS", requires = "camera")]
    pub patience: Option<u64>,
}

impl Pace {
    /// Whether anything was asked for, which only a camera can do.
    pub fn is_given(&self) -> bool {
        self.every.is_some() || self.count.is_some() || self.no_drop || self.patience.is_some()
    }
}

/// What looking at a frame came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It was used.
    Good,
    /// It cannot be decoded.
    Broken,
}

/// What became of all frames that came.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Frames that were used.
    pub good: u64,
    /// Frames that could not be decoded.
    pub broken: u64,
    /// Frames that came while another one was looked at, and had a newer one after them.
    pub dropped: u64,
    /// Frames of the time between two looks.
    pub between: u64,
    /// Frames whose end never came.
    pub cut: u64,
    /// From the first frame that was looked at to now.
    pub time: Duration,
}

impl Tally {
    /// Whether any frame was looked at, or could have been.
    pub fn any(&self) -> bool {
        self.good + self.broken + self.cut > 0
    }

    /// Frames looked at in a second, but for the first; 0 where there is no other.
    pub fn rate(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        let more = (self.good + self.broken).saturating_sub(1);
        if seconds > 0.0 { more as f64 / seconds } else { 0.0 }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = if self.good == 1 { "frame" } else { "frames" };
        write!(
            f,
            "{} {frames} used ({:.1} frames/s), {} dropped because newer ones came",
            self.good,
            self.rate(),
            self.dropped
        )?;
        for (count, why) in [
            (self.between, "left out between two looks"),
            (self.broken, "that cannot be decoded"),
            (self.cut, "cut off before their end"),
        ] {
            if count > 0 {
                write!(f, ", {count} {why}")?;
            }
        }
        Ok(())
    }
}

/// Shows frames of `source` to `look`, with the tally before each, until the source is at its end, `pace` is content
/// or somebody asks to `stop`.
///
/// # Errors
/// Those of `look`, and when the camera gives no pictures, or none any more; the tally comes out all the same.
pub fn watch(
    source: &CameraSource,
    pace: &Pace,
    stop: &Stop,
    look: impl FnMut(&Frame, &Tally) -> Result<Seen, CliError>,
) -> (Tally, Result<(), CliError>) {
    let slot = Arc::new(Slot::new(pace.no_drop));
    let (asked, stopped) = (stop.clone(), slot.clone());
    tokio::spawn(async move {
        asked.asked().await;
        stopped.end(Last::Stopped);
    });
    let (source, filled, patience) = (source.clone(), slot.clone(), pace.patience.map(Duration::from_secs));
    let patient = Patient::with(pace.every);
    // It ends with the process: a read from standard input cannot be given up.
    let reader = std::thread::Builder::new().name("camera".into()).spawn(move || {
        let last = read(&source, &filled, patience, patient);
        filled.end(last);
    });
    match reader {
        Ok(_) => tokio::task::block_in_place(|| look_at_all(&slot, pace, look)),
        Err(source) => (Tally::default(), Err(CliError::Io { path: "thread".into(), source })),
    }
}

fn look_at_all(
    slot: &Slot,
    pace: &Pace,
    mut look: impl FnMut(&Frame, &Tally) -> Result<Seen, CliError>,
) -> (Tally, Result<(), CliError>) {
    let mut tally = Tally::default();
    let mut first = None;
    // The number of the frame before, and how many had come when it was done with.
    let (mut before, mut then) = (0, 0);
    let result = loop {
        let frame = match slot.take() {
            Ok(frame) => frame,
            Err(Last::Over | Last::Stopped) => {
                // They came before they were due.
                tally.between += slot.counts().0 - before;
                break Ok(());
            }
            Err(Last::Failed(error)) => break Err(CliError::from(error)),
        };
        let due = Instant::now() + pace.every.unwrap_or_default();
        let missed = frame.number - before - 1;
        // The newest of those that had come by then was still there to be taken.
        let dropped = if pace.every.is_some() { missed.min(u64::saturating_sub(then, before + 1)) } else { missed };
        tally.dropped += dropped;
        tally.between += missed - dropped;
        tally.time = first.get_or_insert_with(Instant::now).elapsed();
        match look(&frame, &tally) {
            Ok(Seen::Good) => tally.good += 1,
            Ok(Seen::Broken) => tally.broken += 1,
            Err(error) => break Err(error),
        }
        before = frame.number;
        then = slot.counts().0;
        if pace.count == Some(tally.good) {
            break Ok(());
        }
        if pace.every.is_some() {
            slot.rest(due);
        }
    };
    tally.cut = slot.counts().1;
    (tally, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typed::typed;

    fn pace(words: &[&str]) -> Pace {
        typed::<WithCamera>(&[&["--camera", "-"], words].concat()).unwrap().pace
    }

    #[derive(clap::Args)]
    struct WithCamera {
        #[arg(long, id = "camera")]
        _camera: CameraSource,
        #[command(flatten)]
        pace: Pace,
    }

    /// Looks at frames of one byte, of which 9 are broken; more come when a frame is looked at, as `more` says.
    fn look(pace: &Pace, more: impl Fn(&Slot, u8)) -> (Vec<u8>, Tally) {
        let slot = Slot::new(false);
        slot.put(vec![1]);
        let mut seen = Vec::new();
        let (tally, result) = look_at_all(&slot, pace, |frame, _| {
            seen.push(frame.bytes[0]);
            more(&slot, frame.bytes[0]);
            Ok(if frame.bytes[0] == 9 { Seen::Broken } else { Seen::Good })
        });
        result.unwrap();
        (seen, Tally { time: Duration::ZERO, ..tally })
    }

    #[test]
    fn what_comes_while_a_frame_is_looked_at_is_dropped_but_for_the_newest() {
        let (seen, tally) = look(&pace(&[]), |slot, byte| match byte {
            1 => [2, 3, 9].into_iter().for_each(|byte| slot.put(vec![byte])),
            9 => slot.put(vec![5]),
            _ => slot.end(Last::Over),
        });
        assert_eq!(seen, [1, 9, 5]);
        assert_eq!(tally, Tally { good: 2, broken: 1, dropped: 2, ..Tally::default() });
        let text = tally.to_string();
        assert!(text.starts_with("2 frames used (0.0 frames/s), 2 dropped because newer ones came, 1 that"), "{text}");
    }

    #[test]
    fn enough_is_enough() {
        let (seen, tally) = look(&pace(&["--count", "3"]), |slot, byte| slot.put(vec![byte + 1]));
        assert_eq!((seen, tally.good), (vec![1, 2, 3], 3));
    }

    #[test]
    fn a_pause_is_kept_and_what_came_before_it_is_left_out() {
        let (seen, tally) = look(&pace(&["--every", "60m"]), |slot, _| {
            slot.put(vec![2]);
            slot.end(Last::Over);
        });
        assert_eq!((seen, tally.between, tally.dropped), (vec![1], 1, 0));
    }
}
