//! JSON patch (RFC 6902), within bounds: ten thousand operations could copy a document into
//! itself until memory is full, nest it until the stack is, or shift a long list for minutes.

use std::io;

use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde::Deserialize;
use serde_json::Value;

use crate::decode::MAX_DEPTH;
use crate::status::{self, Failure};

/// Patches a document. What is over the bounds is 422, as copying too much is on the real server.
pub(super) fn patch(document: &mut Value, patch: &Value) -> Result<(), Failure> {
    let refused = status::unprocessable_patch;
    let (depth, _) = measure(document);
    let mut bounds = Bounds { depth, copied: 0, work: 0 };
    // One after the other: each holds a copy of its value.
    for operation in patch.as_array().ok_or_else(refused)? {
        let operation = PatchOperation::deserialize(operation).map_err(|_| refused())?;
        if finds_nothing_as_wanted(document, &operation) {
            continue;
        }
        bounds.admit(document, &operation).ok_or_else(refused)?;
        json_patch::patch(document, &[operation]).map_err(|_| refused())?;
    }
    Ok(())
}

/// Whether an operation tests that a field is null, and there is no such field. RFC 6902 refuses
/// it, the real server does not, and clients rely on that to add the first finalizer.
fn finds_nothing_as_wanted(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let parent = test.path.split_back().and_then(|(parent, _)| parent.resolve(document).ok());
    test.value.is_null()
        && parent.is_some_and(Value::is_object)
        && test.path.resolve(document).is_err()
}

/// What a patch has done so far.
struct Bounds {
    /// The document is not deeper than this, which is at most [`MAX_DEPTH`].
    depth: usize,
    /// Bytes of JSON that were copied.
    copied: usize,
    /// Values that were looked at or moved besides the operations' own.
    work: usize,
}

impl Bounds {
    /// Counts an operation, if it may be done.
    fn admit(&mut self, document: &Value, operation: &PatchOperation) -> Option<()> {
        self.shift(document, operation.path())?;
        match operation {
            PatchOperation::Add(add) => self.nest(&add.path, measure(&add.value).0),
            PatchOperation::Replace(replace) => self.nest(&replace.path, measure(&replace.value).0),
            PatchOperation::Move(moved) => {
                self.shift(document, &moved.from)?;
                self.hang(document, &moved.from, &moved.path)
            }
            PatchOperation::Copy(copy) => {
                // A source that is not there is refused when the operation is done.
                let source = copy.from.resolve(document).unwrap_or(&Value::Null);
                self.copied += length(source);
                (self.copied <= MOST_COPIED).then_some(())?;
                self.hang(document, &copy.from, &copy.path)
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => Some(()),
        }
    }

    /// A part of the document comes to another place.
    fn hang(&mut self, document: &Value, from: &Pointer, path: &Pointer) -> Option<()> {
        let at_most = self.depth.saturating_sub(from.count());
        if path.count() + at_most <= MAX_DEPTH {
            return self.nest(path, at_most);
        }
        let (depth, size) = measure(from.resolve(document).unwrap_or(&Value::Null));
        self.work(size)?;
        self.nest(path, depth)
    }

    fn nest(&mut self, path: &Pointer, depth: usize) -> Option<()> {
        self.depth = self.depth.max(path.count() + depth);
        (self.depth <= MAX_DEPTH).then_some(())
    }

    /// What is put into a list or taken out of it moves what stands behind.
    fn shift(&mut self, document: &Value, path: &Pointer) -> Option<()> {
        let list =
            path.split_back().and_then(|(parent, _)| parent.resolve(document).ok()?.as_array());
        self.work(list.map_or(0, Vec::len))
    }

    fn work(&mut self, values: usize) -> Option<()> {
        self.work += values;
        (self.work <= MOST_WORK).then_some(())
    }
}

/// Levels and number of values. Not deeper than [`MAX_DEPTH`]: so is all that comes here.
fn measure(value: &Value) -> (usize, usize) {
    let parts: &mut dyn Iterator<Item = &Value> = match value {
        Value::Array(items) => &mut items.iter(),
        Value::Object(members) => &mut members.values(),
        _ => return (0, 1),
    };
    parts
        .map(measure)
        .fold((1, 1), |(depth, size), (inner, count)| (depth.max(inner + 1), size + count))
}

/// Bytes of the value's JSON text.
fn length(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail.
    drop(serde_json::to_writer(&mut count, value));
    count.0
}

/// Bytes that the copies of one patch may have together (the real server's limit).
const MOST_COPIED: usize = 3 * 1024 * 1024;
/// Some tenths of a second.
const MOST_WORK: usize = 20_000_000;
