//! Syntax of names, labels, ports and keys, with upstream's texts (apimachinery
//! `util/validation`). Every function gives one text per rule broken; none means valid.

/// RFC 1123 label: at most 63 lower-case alphanumerics and `-`.
pub fn dns_label(value: &str) -> Vec<String> {
    let mut errors = longer_than(value, 63);
    if is_dns_label(value) {
        return errors;
    }
    errors.push(if is_dns_subdomain(value) {
        "must not contain dots".to_owned()
    } else {
        pattern(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character",
            DNS_LABEL,
            &["my-name", "123-abc"],
        )
    });
    errors
}

/// RFC 1035 label: an RFC 1123 label that starts with a letter.
pub fn dns_label_1035(value: &str) -> Vec<String> {
    let mut errors = longer_than(value, 63);
    if !is_dns_label(value) || value.starts_with(|c: char| c.is_ascii_digit()) {
        errors.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// RFC 1123 subdomain: at most 253 characters, labels joined by dots.
pub fn dns_subdomain(value: &str) -> Vec<String> {
    let mut errors = longer_than(value, 253);
    if !is_dns_subdomain(value) {
        errors.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
            &format!("{DNS_LABEL}(\\.{DNS_LABEL})*"),
            &["example.com"],
        ));
    }
    errors
}

/// `name` or `prefix/name`, as label keys, finalizers and appProtocol.
pub fn qualified_name(value: &str) -> Vec<String> {
    let parts: Vec<&str> = value.split('/').collect();
    let mut errors = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(prefixed("prefix part ", dns_subdomain(prefix)));
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')",
                qualified_pattern()
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else {
        errors.extend(prefixed("name part ", longer_than(name, 63)));
    }
    if name.is_empty() || !is_label_value(name) {
        errors.push(format!("name part {}", qualified_pattern()));
    }
    errors
}

/// Value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = longer_than(value, 63);
    if !is_label_value(value) {
        errors.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// IANA service name, as a named port.
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = longer_than(value, 15);
    let mut add = |broken: bool, text: &str| {
        if broken {
            errors.push(text.to_owned());
        }
    };
    let known = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    add(
        value.is_empty() || !value.bytes().all(known),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    add(
        !value.bytes().any(|byte| byte.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    add(value.contains("--"), "must not contain consecutive hyphens");
    add(value.starts_with('-') || value.ends_with('-'), "must not begin or end with a hyphen");
    errors
}

/// Number of a port.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// Key of a ConfigMap or Secret.
pub fn config_key(value: &str) -> Vec<String> {
    let mut errors = longer_than(value, 253);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if value.is_empty() || !value.bytes().all(known) {
        errors.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        value if value.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// Name of an environment variable.
pub fn env_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters \
             other than '='"
                .to_owned(),
        );
    }
    errors
}

/// What may stand between two slashes of a path.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        value => ["/", "%"]
            .iter()
            .filter(|part| value.contains(**part))
            .map(|part| format!("may not contain '{part}'"))
            .collect(),
    }
}

/// Applies a rule for names to a `generateName`, whose last dash is not the name's last character.
pub fn generate_name(rule: fn(&str) -> Vec<String>, value: &str) -> Vec<String> {
    match value.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => {
            let stem: String = stem.chars().take(stem.chars().count() - 1).collect();
            rule(&format!("{stem}a"))
        }
        _ => rule(value),
    }
}

fn is_dns_label(value: &str) -> bool {
    let known = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !value.is_empty()
        && value.bytes().all(known)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_label_value(value: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.bytes().all(known) && edge(value.bytes().next()) && edge(value.bytes().last())
}

fn qualified_pattern() -> String {
    pattern(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character",
        "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
        &["MyName", "my.name", "123-abc"],
    )
}

fn longer_than(value: &str, limit: usize) -> Vec<String> {
    if value.len() > limit {
        vec![format!("must be no more than {limit} characters")]
    } else {
        Vec::new()
    }
}

fn prefixed(prefix: &str, texts: Vec<String>) -> impl Iterator<Item = String> {
    texts.into_iter().map(move |text| format!("{prefix}{text}"))
}

/// Upstream's `RegexError`, two blanks before "or" included.
fn pattern(text: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_upstreams() {
        assert_eq!(
            dns_label("-a"),
            [concat!(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or ",
                "'-', and must start and end with an alphanumeric character (e.g. 'my-name',  or ",
                "'123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            )]
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(
            port_name("80-"),
            ["must contain at least one letter (a-z)", "must not begin or end with a hyphen"]
        );
    }

    #[test]
    fn valid_names_pass() {
        assert!(dns_label(&"a".repeat(63)).is_empty());
        assert!(dns_subdomain("a-1.example.com").is_empty());
        assert!(qualified_name("kubernetes.io/h2c").is_empty());
        assert!(label_value("").is_empty());
        assert!(port_name("abcdefghij12345").is_empty());
        assert!(config_key("..data.x").len() == 1);
        assert!(generate_name(dns_label, "web-").is_empty());
    }
}
