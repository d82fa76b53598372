//! Ages as people read them (apimachinery `duration.HumanDuration`).

/// A duration in short: `5s`, `2m3s`, `10m`, `3h5m`, `12h`, `2d5h`, `8d`, `2y3d`, `9y`.
///
/// `micros` is the duration in microseconds.
pub fn human(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    if seconds < 2 * MINUTE {
        return format!("{seconds}s");
    }
    let (minutes, hours, days) = (seconds / MINUTE, seconds / HOUR, seconds / DAY);
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match () {
        () if minutes < 10 => pair(minutes, "m", seconds % MINUTE, "s"),
        () if minutes < 3 * 60 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 2 * 365 => format!("{days}d"),
        () if days < 8 * 365 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

/// Time since an RFC 3339 timestamp; `<unknown>` when there is none. `now` is microseconds since
/// the epoch.
pub fn since(timestamp: &str, now: i64) -> String {
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(then) => human(now - then.as_microsecond()),
        Err(_) => "<unknown>".to_owned(),
    }
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_lose_precision_as_they_grow() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (123, "2m3s"),
            (10 * MINUTE + 5, "10m"),
            (179 * MINUTE, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 5 * MINUTE, "3h5m"),
            (8 * HOUR + 59 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY + 5 * HOUR, "8d"),
            (729 * DAY, "729d"),
            (2 * 365 * DAY + 3 * DAY, "2y3d"),
            (9 * 365 * DAY, "9y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds * 1_000_000), text, "{seconds} s");
        }
    }

    #[test]
    fn an_object_without_a_timestamp_has_no_known_age() {
        assert_eq!(since("", 0), "<unknown>");
        assert_eq!(since("1970-01-01T00:00:01Z", 4_000_000), "3s");
    }
}
