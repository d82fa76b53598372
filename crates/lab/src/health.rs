//! The two messages of `grpc.health.v1.Health/Check` (grpc/health/v1/health.proto), and the frame
//! that gRPC puts around a message: a byte that says "not compressed" and the length.

/// Path of the call.
pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServingStatus {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
}

impl ServingStatus {
    /// Its name in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// A framed `HealthCheckRequest`.
pub(crate) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(FIRST_BYTES);
        varint(service.len() as u64, &mut message);
        message.extend(service.as_bytes());
    }
    framed(&message)
}

/// The service that a framed request asks for; `None` when it is none.
pub(crate) fn parse_request(frame: &[u8]) -> Option<String> {
    let mut service = Vec::new();
    for field in fields(unframed(frame)?) {
        if let Field::Bytes(1, bytes) = field? {
            service = bytes.to_vec();
        }
    }
    String::from_utf8(service).ok()
}

/// A framed `HealthCheckResponse`.
pub(crate) fn response(serving: ServingStatus) -> Vec<u8> {
    let number = match serving {
        ServingStatus::Unknown => return framed(&[]),
        ServingStatus::Serving => 1,
        ServingStatus::NotServing => 2,
        ServingStatus::ServiceUnknown => 3,
    };
    framed(&[FIRST_NUMBER, number])
}

/// What a framed response says; `None` when it is none.
pub(crate) fn parse_response(frame: &[u8]) -> Option<ServingStatus> {
    let mut status = 0;
    for field in fields(unframed(frame)?) {
        if let Field::Number(1, number) = field? {
            status = number;
        }
    }
    Some(match status {
        1 => ServingStatus::Serving,
        2 => ServingStatus::NotServing,
        3 => ServingStatus::ServiceUnknown,
        _ => ServingStatus::Unknown,
    })
}

fn framed(message: &[u8]) -> Vec<u8> {
    // Messages here are as short as a service's name.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

fn unframed(frame: &[u8]) -> Option<&[u8]> {
    let [0, a, b, c, d, ref message @ ..] = *frame else { return None };
    message.get(..usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?)
}

/// A field with its number.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
    Other,
}

/// The fields of a message (protobuf wire format); ends with a `None` where it is broken.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let tag = read_varint(rest)?;
    let mut take = |length: u64| {
        let (taken, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        *rest = after;
        Some(taken)
    };
    match tag & 7 {
        1 => take(8).map(|_| Field::Other),
        5 => take(4).map(|_| Field::Other),
        0 => read_varint(rest).map(|number| Field::Number(tag >> 3, number)),
        2 => {
            let length = read_varint(rest)?;
            let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *rest = after;
            Some(Field::Bytes(tag >> 3, bytes))
        }
        _ => None,
    }
}

fn varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(low(number) | 0x80);
        number >>= 7;
    }
    to.push(low(number));
}

fn low(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Field 1, length-delimited.
const FIRST_BYTES: u8 = 1 << 3 | 2;
/// Field 1, a varint.
const FIRST_NUMBER: u8 = 1 << 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back() {
        let long = "x".repeat(300);
        for service in ["", "web", &long] {
            assert_eq!(parse_request(&request(service)).as_deref(), Some(service));
        }
        for serving in [
            ServingStatus::Unknown,
            ServingStatus::Serving,
            ServingStatus::NotServing,
            ServingStatus::ServiceUnknown,
        ] {
            assert_eq!(parse_response(&response(serving)), Some(serving));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        assert_eq!(request("web"), [0, 0, 0, 0, 5, 0x0a, 3, b'w', b'e', b'b']);
        assert_eq!(response(ServingStatus::Serving), [0, 0, 0, 0, 2, 8, 1]);
    }

    #[test]
    fn unknown_fields_are_passed_over_and_broken_messages_refused() {
        let later = [0, 0, 0, 0, 9, 8, 2, 0x15, 1, 2, 3, 4, 0x12, 0];
        assert_eq!(parse_response(&later), Some(ServingStatus::NotServing));
        for broken in
            [&[][..], &[0, 0, 0], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 8], &[0, 0, 0, 0, 1, 8]]
        {
            assert_eq!(parse_response(broken), None, "{broken:?}");
        }
        assert_eq!(parse_request(&[0, 0, 0, 0, 3, 0x0a, 9, b'x']), None);
    }
}
