//! `--token-auth-file`: tokens that never change.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use thiserror::Error;

use super::AUTHENTICATED;
use crate::api::User;

/// Users by the SHA-256 of their token: looking one up tells nothing about the others by its
/// duration.
#[derive(Default)]
pub(crate) struct StaticTokens(HashMap<Vec<u8>, User>);

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not `token,user,uid[,"group1,group2"]`.
    #[error("{}:{line}: {reason}; a line is token,user,uid,\"group1,group2\"", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl StaticTokens {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (token, user) = parse(line).map_err(|reason| TokenFileError::Line {
                path: path.to_owned(),
                line: index + 1,
                reason,
            })?;
            users.insert(hash(&token), user);
        }
        Ok(Self(users))
    }

    /// The user of a token.
    pub(crate) fn user(&self, token: &str) -> Option<User> {
        self.0.get(&hash(token)).cloned()
    }
}

fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

fn parse(line: &str) -> Result<(String, User), &'static str> {
    let fields = fields(line)?;
    let (token, name, uid, groups) = match fields.as_slice() {
        [token, name, uid] => (token, name, uid, ""),
        [token, name, uid, groups, ..] => (token, name, uid, groups.as_str()),
        _ => return Err("fewer than three fields"),
    };
    if token.is_empty() || name.is_empty() {
        return Err("token and user must not be empty");
    }
    let groups = groups
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .chain([AUTHENTICATED])
        .map(str::to_owned)
        .collect();
    let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
    Ok((token.clone(), user))
}

/// The fields of a CSV line (RFC 4180: quotes, and doubled quotes inside them).
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            char => push(&mut fields, char),
        }
    }
    if quoted { Err("a quote is not closed") } else { Ok(fields) }
}

fn push(fields: &mut [String], char: char) {
    if let Some(field) = fields.last_mut() {
        field.push(char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StaticTokens, TokenFileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        StaticTokens::read(file.path())
    }

    #[test]
    fn a_line_gives_user_and_groups() {
        let tokens = read("# comment\n\nt1,alice,1,\"a,b\"\nt2,bob,2\n").unwrap();
        let alice = tokens.user("t1").unwrap();
        assert_eq!((alice.name.as_str(), alice.groups.len()), ("alice", 3));
        assert_eq!(tokens.user("t2").unwrap().groups, [AUTHENTICATED]);
        assert_eq!(tokens.user("t3"), None);
    }

    #[test]
    fn a_broken_line_is_named() {
        for text in ["t,u,1\nx,y\n", "t,u,1\nx,y,1,\"a\n", "t,u,1\n,y,1\n"] {
            assert!(matches!(read(text), Err(TokenFileError::Line { line: 2, .. })), "{text}");
        }
    }
}
