//! Times as people write and read them.

use std::time::Duration;

/// Reads how long something lives: `90s`, `15m`, `12h`, `7d`.
///
/// # Errors
/// What would be a time, where `text` is none.
pub fn life(text: &str) -> Result<Duration, String> {
    let seconds = |digits: &str, unit: u64| digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    let found = match text.char_indices().next_back() {
        Some((at, 's')) => seconds(&text[..at], 1),
        Some((at, 'm')) => seconds(&text[..at], 60),
        Some((at, 'h')) => seconds(&text[..at], 3600),
        Some((at, 'd')) => seconds(&text[..at], 24 * 3600),
        _ => None,
    };
    found.map(Duration::from_secs).ok_or_else(|| "a time is a number with s, m, h or d: 90s, 12h, 7d".to_owned())
}

/// Reads a pause: `0.5s`, `200ms`, `2m`.
///
/// # Errors
/// What would be a pause, where `text` is none.
pub fn pause(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let count = text.strip_suffix(unit)?.parse::<f64>().ok()?;
        Duration::try_from_secs_f64(count * seconds).ok()
    });
    let usable = found.filter(|pause| !pause.is_zero() && *pause <= Duration::from_secs(24 * 3600));
    usable.ok_or_else(|| "a pause is a number above 0 with ms, s or m, a day at most: 200ms, 0.5s, 2m".to_owned())
}

/// A point in time that is `seconds` after the beginning of 1970; `never` where no calendar has it.
pub fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}

/// How long something takes or took: `1h02m`, `6m10s`, `12s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_read() {
        let read = |text| life(text).map(|life| life.as_secs());
        assert_eq!([read("90s"), read("15m"), read("12h"), read("7d")], [90, 900, 43_200, 604_800].map(Ok));
        assert!(["", "7", "d", "-1d", "1w", "99999999999999999999d"].iter().all(|text| life(text).is_err()));
    }

    #[test]
    fn pauses_are_read() {
        let read = |text| pause(text).map(|pause| pause.as_millis());
        assert_eq!([read("200ms"), read("0.5s"), read("2s"), read("2m")], [200, 500, 2000, 120_000].map(Ok));
        let none = ["", "1", "s", "0s", "-1s", "nans", "infs", "1h", "1e30s", "2000m", "0.5"];
        assert!(none.iter().all(|text| pause(text).is_err()));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_234_567_890), "2009-02-13T23:31:30Z");
        assert_eq!([date(u64::MAX), date(i64::MAX as u64)], ["never", "never"]);
    }

    #[test]
    fn durations_read_well() {
        let read = [0.0, 11.6, 370.0, 3725.0, 360_000.0, -1.0, f64::NAN].map(duration);
        assert_eq!(read, ["0s", "12s", "6m10s", "1h02m", "100h00m", "0s", "0s"]);
    }
}
