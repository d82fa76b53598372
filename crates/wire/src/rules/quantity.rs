//! Resource quantities (apimachinery `api/resource`).

/// A quantity such as `100m`, `2`, `1.5Gi` or `1e3`, in thousandths. `None` when it is none.
pub fn millis(text: &str) -> Option<i128> {
    let end = text.find(|char: char| !matches!(char, '0'..='9' | '.' | '+' | '-'));
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let thousandths = decimal(number)?;
    let (factor, divisor): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => power_of_ten(exponent)?,
    };
    let scaled = thousandths.checked_mul(factor)?;
    // Rounds away from zero, as upstream does.
    let rest = i128::from(scaled % divisor != 0) * scaled.signum();
    Some(scaled / divisor + rest)
}

/// Sign, digits and at most three digits after the point, in thousandths; more are rounded up.
fn decimal(number: &str) -> Option<i128> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let known = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !known(whole) || !known(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let kept = &fraction[..fraction.len().min(3)];
    let rest = &fraction[kept.len()..];
    let fraction: i128 = format!("{kept:0<3}").parse().ok()?;
    let up = i128::from(rest.bytes().any(|byte| byte != b'0'));
    Some(sign * (whole.checked_mul(1000)? + fraction + up))
}

fn power_of_ten(suffix: &str) -> Option<(i128, i128)> {
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_scale() {
        let cases = [
            ("2", Some(2_000)),
            ("100m", Some(100)),
            ("1.5", Some(1_500)),
            ("0.0001", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("1e3", Some(1_000_000)),
            ("-1", Some(-1_000)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1.2.3", None),
        ];
        for (text, expected) in cases {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
