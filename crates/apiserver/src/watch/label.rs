//! Label selectors as text (apimachinery labels.Parse).

use std::collections::BTreeSet;

use wire::rules::text;
use wire::status;

use crate::store::Record;

/// One requirement on one label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Operator {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

impl Requirement {
    pub(super) fn matches(&self, record: &Record) -> bool {
        self.operator.matches(record.label(&self.key))
    }
}

impl Operator {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
            Self::LessThan(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

/// Parses a selector such as `app=web,tier in (a,b),!old`.
///
/// # Errors
///
/// The text for a 400 answer.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), position: 0 };
    let mut requirements = Vec::new();
    while parser.peek() != Token::End {
        requirements.push(parser.requirement()?);
        match parser.next() {
            Token::End => break,
            Token::Comma if parser.peek() == Token::End => {
                return Err(format!("found '{}', expected: identifier after ','", parser.peek()));
            }
            Token::Comma => {}
            other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
        }
    }
    Ok(requirements)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Open,
    Close,
    Equal,
    DoubleEqual,
    NotEqual,
    Not,
    Greater,
    Less,
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Equal => "=",
            Self::DoubleEqual => "==",
            Self::NotEqual => "!=",
            Self::Not => "!",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        })
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    const SYMBOLS: [(&str, Token<'_>); 9] = [
        ("==", Token::DoubleEqual),
        ("!=", Token::NotEqual),
        ("=", Token::Equal),
        ("!", Token::Not),
        (">", Token::Greater),
        ("<", Token::Less),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let symbol = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol));
        let (token, length) = match symbol {
            Some((symbol, token)) => (*token, symbol.len()),
            None => {
                let is_end = |char: char| char.is_whitespace() || "=!><(),".contains(char);
                let length = rest.find(is_end).unwrap_or(rest.len());
                (Token::Word(&rest[..length]), length)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.position).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key.to_owned(),
            other => {
                let wanted =
                    if negated { "identifier" } else { "!, identifier, or 'end of string'" };
                return Err(format!(
                    "unable to parse requirement: found '{other}', expected: {wanted}"
                ));
            }
        };
        let why = text::qualified_name(&key);
        if !why.is_empty() {
            let (key, why) = (status::quote(&key), why.join("; "));
            // The reference server has no path here and prints that.
            return Err(format!("unable to parse requirement: <nil>: Invalid value: {key}: {why}"));
        }
        let operator = if negated { Operator::DoesNotExist } else { self.operator()? };
        if let Operator::In(values) | Operator::NotIn(values) = &operator {
            for (index, value) in values.iter().enumerate() {
                let why = text::label_value(value);
                if !why.is_empty() {
                    let (value, why) = (status::quote(value), why.join("; "));
                    return Err(format!(
                        "unable to parse requirement: values[{index}][{key}]: Invalid value: \
                         {value}: {why}"
                    ));
                }
            }
        }
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self) -> Result<Operator, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Operator::Exists);
        }
        let operator = self.next();
        match operator {
            Token::Word("in") => Ok(Operator::In(self.values()?)),
            Token::Word("notin") => Ok(Operator::NotIn(self.values()?)),
            Token::Equal | Token::DoubleEqual => Ok(Operator::In([self.value()?].into())),
            Token::NotEqual => Ok(Operator::NotIn([self.value()?].into())),
            Token::Greater => Ok(Operator::GreaterThan(self.number()?)),
            Token::Less => Ok(Operator::LessThan(self.number()?)),
            other => Err(format!(
                "unable to parse requirement: found '{other}', expected: in, notin, =, ==, !=, gt, lt"
            )),
        }
    }

    /// A word, or nothing at all: `a=` asks for an empty value.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            other => {
                Err(format!("unable to parse requirement: found '{other}', expected: identifier"))
            }
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_not_a_number| {
            format!(
                "unable to parse requirement: values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.next();
        if open != Token::Open {
            return Err(format!("unable to parse requirement: found '{open}' expected: '('"));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Word(word) => drop(values.insert(word.to_owned())),
                Token::Comma => drop(values.insert(String::new())),
                Token::Close => {
                    values.insert(String::new());
                    return Ok(values);
                }
                other => {
                    return Err(format!(
                        "unable to parse requirement: found '{other}', expected: ',', ')' or identifier"
                    ));
                }
            }
            // A word is followed by a comma and the next value, or by the end.
            if matches!(self.tokens.get(self.position - 1), Some(Token::Word(_))) {
                match self.next() {
                    Token::Close => return Ok(values),
                    Token::Comma => {}
                    other => {
                        return Err(format!(
                            "unable to parse requirement: found '{other}', expected: ',' or ')'"
                        ));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        parse(selector).unwrap().iter().all(|requirement| {
            let value = labels.iter().find(|(key, _)| *key == requirement.key);
            requirement.operator.matches(value.map(|(_, value)| *value))
        })
    }

    #[test]
    fn every_operator_selects() {
        let labels = [("tier", "front"), ("n", "2"), ("empty", "")];
        for selector in [
            "",
            "tier",
            "tier=front",
            "tier==front",
            "tier != back",
            "tier in (front, back)",
            "tier notin (back)",
            "absent notin (x)",
            "!absent",
            "n>1,n<3",
            "empty=",
            "empty in ()",
            "tier = front , n = 2",
            "absent!=x",
            "in in (front),!x,tier",
        ] {
            let expected = !selector.starts_with("in in");
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
        for selector in ["absent", "tier=back", "!tier", "n>2", "tier in (back)", "empty=x"] {
            assert!(!matches(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for selector in [",", "a=b,", "a in b", "a in (b", "=x", "a>x", "a b", "a/b/c", "-a", "!"] {
            assert!(parse(selector).is_err(), "{selector}");
        }
        assert_eq!(
            parse("a in b").unwrap_err(),
            "unable to parse requirement: found 'b' expected: '('"
        );
        let why = parse(&format!("a in (b,{})", "c".repeat(64))).unwrap_err();
        assert!(why.contains("values[1][a]: Invalid value: \"ccc"), "{why}");
        assert!(why.ends_with("must be no more than 63 characters"), "{why}");
        assert!(parse("a=b$").unwrap_err().contains("values[0][a]: Invalid value: \"b$\": "));
    }
}
