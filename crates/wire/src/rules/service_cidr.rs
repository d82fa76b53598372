//! `networking.k8s.io/v1` ServiceCIDR: a range of cluster IPs.

use serde_json::{Value, json};

use super::error::{each, immutable, invalid, invalid_shown, required};
use super::fields::{Fields, copy, set};
use super::{ip, meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// A new range has no status.
pub(crate) fn prepare_create(cidr: &mut Value, _: &Env) {
    set(cidr, "/status", json!({}));
}

/// A changed range keeps its status.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    copy(new, old, "status");
}

/// All errors of a new range.
pub(crate) fn validate_create(cidr: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(cidr, false, text::dns_subdomain);
    let field = "spec.cidrs";
    let cidrs = cidr.texts("/spec/cidrs");
    let list = cidr.at("/spec/cidrs");
    let family = |cidr: &str| ip::parse_cidr_sloppy(cidr).map(|net| net.addr().is_ipv4());
    match cidrs.as_slice() {
        [] => errors.push(required(field, "at least one CIDR required")),
        [first, second] if family(first).is_none() || family(first) == family(second) => {
            let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 \
                        and 2001:db8::/64";
            errors.push(invalid(field, list.clone(), text));
        }
        [_] | [_, _] => {
            for (index, cidr) in cidrs.into_iter().enumerate() {
                errors.extend(each(format!("{field}[{index}]"), cidr, ip::cidr(cidr)));
            }
        }
        _ => {
            let shown = format!("{{\"CIDRs\":{list}}}");
            errors.push(invalid_shown(field, &shown, "may only hold up to 2 values"));
        }
    }
    errors
}

/// All errors of a changed range: a single range may become dual, nothing else changes.
pub(crate) fn validate_update(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let (now, before) = (new.texts("/spec/cidrs"), old.texts("/spec/cidrs"));
    if now.len() < before.len() || now.len() > 2 {
        errors.push(immutable("spec.cidrs", new.at("/spec/cidrs").clone()));
        return errors;
    }
    for (index, (now, before)) in now.iter().zip(&before).enumerate() {
        if now != before {
            errors.push(immutable(format!("spec.cidrs[{index}]"), *now));
        }
    }
    for (index, cidr) in now.iter().enumerate().skip(before.len()) {
        errors.extend(each(format!("spec.cidrs[{index}]"), *cidr, ip::cidr(cidr)));
    }
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    meta::validate_update(new, old)
}
