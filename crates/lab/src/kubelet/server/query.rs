//! Query strings.

use crate::kubelet::streams::Wanted;

/// Names and values in their order, decoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A switch is on when it is `1` or `true`.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }

    /// The streams that a client of exec or attach wants.
    pub(super) fn streams(&self) -> Wanted {
        Wanted {
            stdin: self.is_on("input"),
            stdout: self.is_on("output"),
            stderr: self.is_on("error"),
            terminal: self.is_on("tty"),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// Names the field.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        self.get(name)
            .map(|value| value.parse().map_err(|_| format!("{name} {value:?} is not a number")))
            .transpose()
    }
}

/// Undoes percent encoding; a `+` is a space, as in Go's `url.ParseQuery`.
fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['%', '+']) {
        decoded.extend(rest[..at].bytes());
        let escape =
            rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, length) = match (rest.as_bytes()[at], escape) {
            (b'+', _) => (b' ', 1),
            (_, Some(byte)) => (byte, 3),
            (byte, None) => (byte, 1),
        };
        decoded.push(byte);
        rest = &rest[at + length..];
    }
    decoded.extend(rest.bytes());
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_order_and_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo%20%26+x%&tty=1&tailLines=x");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo & x%"]);
        assert!(query.is_on("tty") && !query.is_on("input"));
        assert!(query.number("tailLines").unwrap_err().contains("tailLines"));
    }
}
