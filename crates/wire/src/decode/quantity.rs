//! `resource.Quantity`: its canonical text form.

/// What the real server answers to a text that is no quantity.
pub(crate) const SYNTAX: &str = "quantities must match the regular expression \
                                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Decimal suffixes with their power of ten. Canonical texts use powers that are multiples of 3.
const DECIMAL: [(&str, i32); 11] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
    // Not a suffix, but where the table ends.
    ("", 21),
];

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The canonical form: an integer mantissa as small as possible, the suffix's family kept.
/// `None` if the text is no quantity. Digits below nano are rounded up.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    let sign = if negative && digits != 0 { "-" } else { "" };
    if let Some(power) = BINARY.iter().position(|b| *b == suffix && !b.is_empty()) {
        let factor = 1024u128.checked_pow(u32::try_from(power).ok()?)?;
        let nano = digits.checked_mul(factor)?.checked_mul(1_000_000_000)?;
        return Some(format!(
            "{sign}{}",
            binary(nano.div_ceil(10u128.checked_pow(scale.try_into().ok()?)?))
        ));
    }
    let (power, exponent_form) = match suffix.strip_prefix(['e', 'E']) {
        Some(exponent) if !exponent.is_empty() => (exponent.parse().ok()?, true),
        _ => (DECIMAL[..10].iter().find(|(s, _)| *s == suffix)?.1, false),
    };
    let (mantissa, power) = reduce(digits, power - scale)?;
    Some(format!("{sign}{}", decimal(mantissa, power, exponent_form)))
}

/// Brings `mantissa * 10^power` to a power that is a multiple of 3 and not below nano.
fn reduce(mut mantissa: u128, mut power: i32) -> Option<(u128, i32)> {
    if mantissa == 0 {
        return Some((0, 0));
    }
    while power < -9 {
        mantissa = mantissa.div_ceil(10);
        power += 1;
    }
    while mantissa.is_multiple_of(10) {
        mantissa /= 10;
        power += 1;
    }
    while power.rem_euclid(3) != 0 {
        mantissa = mantissa.checked_mul(10)?;
        power -= 1;
    }
    while power > 18 {
        mantissa = mantissa.checked_mul(1000)?;
        power -= 3;
    }
    Some((mantissa, power))
}

fn decimal(mantissa: u128, power: i32, exponent_form: bool) -> String {
    if exponent_form && power != 0 {
        return format!("{mantissa}e{power}");
    }
    let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| s);
    format!("{mantissa}{suffix}")
}

/// A binary quantity, given in billionths. Values that are not whole, or below 1024, are written
/// in decimal, as in Go.
fn binary(nano: u128) -> String {
    if !nano.is_multiple_of(1_000_000_000) || nano < 1024 * 1_000_000_000 {
        return reduce(nano, -9).map_or_else(String::new, |(m, p)| decimal(m, p, false));
    }
    let mut value = nano / 1_000_000_000;
    let mut suffix = 0;
    while value.is_multiple_of(1024) && suffix + 1 < BINARY.len() {
        value /= 1024;
        suffix += 1;
    }
    format!("{value}{}", BINARY[suffix])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("0", "0"),
            ("-0", "0"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("100000", "100k"),
            ("1500", "1500"),
            ("+1.25", "1250m"),
            ("128974848", "128974848"),
            ("0.5Ki", "512"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "abc", "1Gi1", "1.2.3", "1 Gi", "--1", "."] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_stable(text in "-?[0-9]{1,9}(\\.[0-9]{1,6})?(m|k|M|Ki|Mi|e3|u|)") {
            let once = canonical(&text).expect("generated to be a quantity");
            prop_assert_eq!(canonical(&once), Some(once.clone()));
        }
    }
}
