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

/// All errors of a new range (S17).
pub(crate) fn validate_create(cidr: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(cidr, false, text::dns_subdomain);
    let field = "spec.cidrs";
    let cidrs = cidr.texts("/spec/cidrs");
    let list = cidr.at("/spec/cidrs");
    let family = |cidr: &str| ip::parse_cidr_sloppy(cidr).map(|net| net.addr().is_ipv4());
    match cidrs.as_slice() {
        [] => errors.push(required(field, "at least one CIDR required")),
        [first, second]
            if family(first).is_none()
                || family(second).is_none()
                || family(first) == family(second) =>
        {
            let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 \
                        and 2001:db8::/64";
            errors.push(invalid(field, list.clone(), text));
        }
        [_] | [_, _] => {
            for (index, cidr) in cidrs.into_iter().enumerate() {
                errors.extend(each(format!("{field}[{index}]"), cidr, ip::canonical_cidr(cidr)));
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
        errors.extend(each(format!("spec.cidrs[{index}]"), *cidr, ip::canonical_cidr(cidr)));
    }
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    meta::validate_update(new, old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{env, outcome};
    use crate::status::CauseReason;

    fn range(cidrs: &[&str]) -> Value {
        json!({ "metadata": { "name": "r" }, "spec": { "cidrs": cidrs } })
    }

    #[test]
    fn bad_ranges_are_refused_where_upstream_says() {
        // S17.
        use CauseReason::{Invalid, Required};
        let rows: [(&str, &[&str], &str, CauseReason); 6] = [
            ("E32", &[], "spec.cidrs", Required),
            ("E33", &["10.0.0.0/24", "fd00::/112", "10.1.0.0/24"], "spec.cidrs", Invalid),
            ("E33", &["10.0.0.0/24", "10.1.0.0/24"], "spec.cidrs", Invalid),
            ("E34", &["10.0.0.1/24"], "spec.cidrs[0]", Invalid),
            ("", &["FD00::/112"], "spec.cidrs[0]", Invalid),
            ("", &["10.0.0.0/24", "text"], "spec.cidrs", Invalid),
        ];
        for (row, cidrs, field, reason) in rows {
            let errors = validate_create(&range(cidrs), &env());
            assert_eq!(outcome(&errors), [(field, reason)], "{row}");
        }
        assert_eq!(validate_create(&range(&["fd00::/48"]), &env()), [], "E36");
    }

    #[test]
    fn a_single_range_may_become_dual_and_nothing_else() {
        // S17.
        let (single, dual) = (["10.0.0.0/24"], ["10.0.0.0/24", "fd00::/112"]);
        let errors = |new: &[&str], old: &[&str]| {
            let errors = validate_update(&range(new), &range(old), &env());
            errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(errors(&dual, &single), Vec::<String>::new());
        assert_eq!(errors(&single, &dual), ["spec.cidrs"]);
        assert_eq!(errors(&["10.0.1.0/24"], &single), ["spec.cidrs[0]"]);
    }
}
