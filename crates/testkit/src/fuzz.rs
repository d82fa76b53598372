//! Damaged input: repeatable choices, and changes to objects and texts.
//!
//! What it is: the generators of the fuzz tests, which are ordinary tests: a few thousand rounds
//! with a new seed each run, and more when an environment variable asks for them. What it is not:
//! guided by coverage, which would need a nightly compiler.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// Repeatable choices (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed makes the same choices.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`; 0 when there is nothing less.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % (limit.max(1) as u64)).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of some.
    ///
    /// # Panics
    /// When there is none.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Another source of choices.
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }
}

/// The rounds of a fuzz test, with their seeds.
#[derive(Debug)]
pub struct Rounds {
    left: usize,
    random: Random,
}

/// `usual` rounds, or as many as the variable `PORTOLAN_FUZZ_ROUNDS` says. `PORTOLAN_FUZZ_SEED`
/// repeats a run.
///
/// # Panics
/// When a variable is no number.
pub fn rounds(usual: usize) -> Rounds {
    let number = |name: &str| {
        std::env::var(name).ok().map(|text| match text.parse::<u64>() {
            Ok(number) => number,
            Err(error) => panic!("{name}={text}: {error}"),
        })
    };
    let left = number("PORTOLAN_FUZZ_ROUNDS")
        .map_or(usual, |rounds| usize::try_from(rounds).unwrap_or(usize::MAX));
    let seed = number("PORTOLAN_FUZZ_SEED").unwrap_or_else(seed_from_clock);
    eprintln!("{left} rounds; to repeat them: PORTOLAN_FUZZ_SEED={seed}");
    Rounds { left, random: Random::new(seed) }
}

impl Iterator for Rounds {
    type Item = Random;

    fn next(&mut self) -> Option<Random> {
        self.left = self.left.checked_sub(1)?;
        Some(self.random.fork())
    }
}

/// A seed that repeats no other run's.
pub fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() ^ (u64::from(now.subsec_nanos()) << 32)
}

/// Tells the input when the code under test panics, and fails when it takes forever.
#[derive(Debug)]
pub struct Attempt<'a, T: Debug> {
    input: &'a T,
    start: Instant,
}

/// Far more than any input takes, on a busy machine and unoptimised.
const FOREVER: Duration = Duration::from_secs(30);

impl<'a, T: Debug> Attempt<'a, T> {
    /// Begins now and ends when dropped.
    pub fn on(input: &'a T) -> Self {
        Self { input, start: Instant::now() }
    }
}

impl<T: Debug> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("on {:?}", self.input);
        } else {
            let took = self.start.elapsed();
            assert!(took < FOREVER, "{took:?} on {:?}", self.input);
        }
    }
}

/// MiB of memory that this process has had at most. Each test is a process under nextest.
pub fn most_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.unwrap_or(u64::MAX) / 1024
}

/// Changes a few parts of an object, some into parts of `others`.
pub fn damage(object: &mut Value, others: &[Value], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let count = size(object);
        let mut at = random.below(count);
        if let Some(part) = part(object, &mut at) {
            change(part, others, random);
        }
    }
}

/// Changes a few bytes, or moves, doubles or cuts out some.
pub fn damage_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = bytes.len().min(at + 1 + random.below(16));
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            3 => {
                let snippet = random.one_of(&SNIPPETS).as_bytes().to_vec();
                bytes.splice(at..at, snippet);
            }
            4 => bytes.insert(at, random.number().to_le_bytes()[0]),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

/// A text in place of another: long, strange, or nearly right.
pub fn text(random: &mut Random) -> String {
    let snippet = *random.one_of(&SNIPPETS);
    match random.below(4) {
        0 => snippet.repeat(1 + random.below(300)),
        1 => format!("{snippet}{}", random.one_of(&SNIPPETS)),
        _ => snippet.to_owned(),
    }
}

fn change(part: &mut Value, others: &[Value], random: &mut Random) {
    match (random.below(8), &mut *part) {
        (0, Value::Object(members)) => {
            if let Some(name) = name(members, random) {
                members.remove(&name);
            }
        }
        (1, Value::Object(members)) => {
            let value = members.values().next().cloned().unwrap_or_default();
            members.insert(text(random), value);
        }
        (2, Value::Object(members)) => {
            if let Some(name) = name(members, random) {
                let value = members.remove(&name).unwrap_or_default();
                members.insert(text(random), value);
            }
        }
        (0 | 1, Value::Array(items)) => {
            let twice = items.first().cloned();
            let times = [1, 2, 200][random.below(3)];
            items.extend(twice.into_iter().flat_map(|item| vec![item; times]));
        }
        (2, Value::Array(items)) => drop(items.pop()),
        (3, part) => *part = json!([part.take()]),
        (4, part) => {
            if !others.is_empty() {
                let mut other = random.one_of(others).clone();
                let mut at = random.below(size(&other));
                *part = self::part(&mut other, &mut at).map(Value::take).unwrap_or_default();
            }
        }
        (_, part) => *part = strange(random),
    }
}

fn name(members: &Map<String, Value>, random: &mut Random) -> Option<String> {
    members.keys().nth(random.below(members.len())).cloned()
}

/// Objects in objects, so many levels deep.
pub fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({}), |inner, _| Value::Object(Map::from_iter([("a".to_owned(), inner)])))
}

fn strange(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => true.into(),
        2 => json!({}),
        3 => json!([]),
        4 => i64::MIN.into(),
        5 => u64::MAX.into(),
        6 => 1e300.into(),
        7 => (-1).into(),
        8 => nested(1 + random.below(300)),
        9 => (0..1 + random.below(300)).fold(json!([]), |inner, _| Value::Array(vec![inner])),
        _ => text(random).into(),
    }
}

/// Parts of a value, itself included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        _ => 0,
    }
}

/// The part at a position, in depth-first order.
fn part<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| part(item, at)),
        Value::Object(members) => members.values_mut().find_map(|member| part(member, at)),
        _ => None,
    }
}

/// What parsers and validators stumble over.
const SNIPPETS: [&str; 48] = [
    "",
    "a",
    "A",
    "-",
    ".",
    "/",
    "~",
    "~1",
    "$",
    "*",
    "&a",
    "*a",
    "!!binary",
    "<<",
    "null",
    "true",
    "0",
    "-0",
    "1e999",
    "99999999999999999999",
    "0x10",
    "10.96.0.1",
    "::",
    "fd00::1",
    "1.2.3.4.5",
    "10.0.0.0/8",
    "::/0",
    "http",
    "80",
    "-1",
    "65536",
    "$patch",
    "$retainKeys",
    "$setElementOrder/ports",
    "$deleteFromPrimitiveList/finalizers",
    "k:{\"port\":80}",
    "f:a",
    "v:1",
    "metadata",
    "spec",
    "ports",
    "\u{0}",
    "\u{7f}",
    "\u{e9}\u{301}",
    "\u{1f600}",
    "\"\\",
    "{[",
    "\n- ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_does_the_same_damage() {
        let object = json!({ "a": [1, { "b": "c" }], "d": null });
        let damaged = |seed| {
            let mut random = Random::new(seed);
            let mut damaged = object.clone();
            damage(&mut damaged, std::slice::from_ref(&object), &mut random);
            let mut bytes = damaged.to_string().into_bytes();
            damage_bytes(&mut bytes, &mut random);
            bytes
        };
        assert_eq!(damaged(7), damaged(7));
        let different: std::collections::BTreeSet<_> = (0..100).map(damaged).collect();
        assert!(different.len() > 50);
    }

    #[test]
    fn every_part_can_be_reached() {
        let mut value = json!({ "a": [1, { "b": "c" }], "d": null });
        for at in 0..size(&value) {
            assert!(part(&mut value, &mut { at }).is_some(), "{at}");
        }
        assert!(part(&mut value, &mut { 7 }).is_none());
    }
}
