//! Cluster IPs and families of a Service, before allocation (semantics 1.7).

use serde_json::{Value, json};

use super::defaults::{family_of, other};
use super::{is_headless, needs_cluster_ip, service_type};
use crate::kinds::Env;
use crate::rules::error::{duplicate, each, invalid, not_supported, required};
use crate::rules::fields::{Fields, remove, set};
use crate::rules::ip;
use crate::status::FieldError;

/// Makes `clusterIPs` follow `clusterIP` for clients that know only the latter: on create when
/// they gave no list; on update when they changed `clusterIP` and left the list as it was.
pub fn normalize_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let address = new.text("/spec/clusterIP").to_owned();
    let Some(old) = old else {
        if !address.is_empty() && new.list("/spec/clusterIPs").is_empty() {
            set(new, "/spec/clusterIPs", json!([address]));
        }
        return;
    };
    if address == old.text("/spec/clusterIP") || !same_list(new, old, CLUSTER_IPS) {
        return;
    }
    if address.is_empty() {
        remove(new, CLUSTER_IPS);
    } else {
        set(new, CLUSTER_IPS, json!([address]));
    }
}

/// Fills `ipFamilyPolicy` and `ipFamilies` from what the client gave, from the stored Service and
/// from the cluster, so that afterwards each family needs one cluster IP.
///
/// # Errors
/// What the client gave contradicts itself or the cluster. Upstream reports these errors alone,
/// without those of full validation.
pub fn init_families(
    new: &mut Value,
    old: Option<&Value>,
    env: &Env,
) -> Result<(), Vec<FieldError>> {
    if service_type(new) == "ExternalName" || old.is_some_and(|old| is_settled(new, old)) {
        return Ok(());
    }
    infer_policy(new, old);
    refuse(validate_cluster_ips(new, old))?;
    let mut errors = old.map(|old| release_secondary(new, old)).unwrap_or_default();
    errors.extend(check_policy(new));
    errors.extend(infer_families(new, env));
    refuse(errors)?;

    let selects = new.map("/spec/selector").next().is_some();
    let free = new.text("/spec/clusterIP") == "None" && !selects;
    if !free {
        refuse(check_cluster(new, env))?;
    }
    let cluster = env.families();
    let mut families: Vec<String> = new.texts(FAMILIES).into_iter().map(str::to_owned).collect();
    if families.is_empty() {
        families.extend(cluster.first().map(|family| family.as_str().to_owned()));
    }
    let dual = new.text(POLICY) != "SingleStack" && (free || cluster.len() == 2);
    if let ([only], true) = (families.as_slice(), dual) {
        let second = other(only).to_owned();
        families.push(second);
    }
    set(new, FAMILIES, families);
    Ok(())
}

/// Errors of `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`. Addresses that were
/// stored already are not judged by today's stricter syntax (semantics 1.8; S3).
pub(super) fn validate_cluster_ips(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if service_type(service) == "ExternalName" {
        return Vec::new();
    }
    let mut errors = validate_pair(service);
    errors.extend(validate_families(service));
    let addresses = service.texts(CLUSTER_IPS);
    let list = service.at(CLUSTER_IPS);
    let known = old.map(|old| old.texts(CLUSTER_IPS)).unwrap_or_default();
    let mut malformed = false;
    for (index, address) in addresses.iter().enumerate() {
        if index == 0 && *address == "None" {
            if addresses.len() > 1 {
                malformed = true;
                let text = "'None' must be the first and only value";
                errors.push(invalid("spec.clusterIPs", list.clone(), text));
            }
            continue;
        }
        let why = if known.contains(address) { Vec::new() } else { ip::address(address) };
        malformed |= !why.is_empty();
        errors.extend(each(format!("spec.clusterIPs[{index}]"), *address, why));
    }
    if addresses.len() > 2 {
        errors.push(invalid("spec.clusterIPs", list.clone(), "may only hold up to 2 values"));
    }
    if malformed {
        return errors;
    }
    let has = |family| addresses.iter().any(|address| family_of(address) == Some(family));
    if addresses.len() > 1 && !(has("IPv4") && has("IPv6")) {
        let text = "may specify no more than one IP for each IP family";
        errors.push(invalid("spec.clusterIPs", list.clone(), text));
    }
    if !is_headless(service) {
        errors.extend(match_families(&addresses, &service.texts(FAMILIES)));
    }
    errors
}

fn validate_pair(service: &Value) -> Vec<FieldError> {
    let single = service.text("/spec/clusterIP");
    let list = service.at(CLUSTER_IPS);
    let first = service.texts(CLUSTER_IPS).first().copied();
    let error = match (single.is_empty(), first) {
        (false, None) => required("spec.clusterIPs", ""),
        (false, Some(first)) if first != single => {
            invalid("spec.clusterIPs", list.clone(), "first value must match `clusterIP`")
        }
        (true, Some(_)) => {
            let text = "must be empty when `clusterIP` is not specified";
            invalid("spec.clusterIPs", list.clone(), text)
        }
        _ => return Vec::new(),
    };
    vec![error]
}

fn validate_families(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let families = service.texts(FAMILIES);
    for (index, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        if !["IPv4", "IPv6"].contains(family) {
            errors.push(not_supported(field.as_str(), *family, &["IPv4", "IPv6"]));
        }
        if families[..index].contains(family) {
            errors.push(duplicate(field, *family));
        }
    }
    let policy = service.at(POLICY);
    if !policy.is_null() && !POLICIES.contains(&policy.as_str().unwrap_or("")) {
        errors.push(not_supported("spec.ipFamilyPolicy", policy.clone(), &POLICIES));
    }
    errors
}

fn match_families(addresses: &[&str], families: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, (address, family)) in addresses.iter().zip(families).enumerate() {
        if family_of(address).is_some_and(|actual| actual != *family) {
            let text = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(invalid(format!("spec.clusterIPs[{index}]"), *address, text));
        }
    }
    errors
}

/// Whether a PreferDualStack Service is left as it is, so that it does not silently follow a
/// cluster that gains or loses a family.
fn is_settled(new: &Value, old: &Value) -> bool {
    let prefers = |service: &Value| service.text(POLICY) == "PreferDualStack";
    service_type(new) == service_type(old)
        && needs_cluster_ip(new)
        && prefers(new)
        && (prefers(old) || !old.has(POLICY))
        && same_list(new, old, CLUSTER_IPS)
        && same_list(new, old, FAMILIES)
}

fn infer_policy(new: &mut Value, old: Option<&Value>) {
    if new.has(POLICY) {
        return;
    }
    let selects = new.map("/spec/selector").next().is_some();
    let headless = new.text("/spec/clusterIP") == "None";
    let policy = match old.map(|old| old.text(POLICY)) {
        Some(policy) if !policy.is_empty() => policy,
        _ if headless && !selects => "RequireDualStack",
        _ => "SingleStack",
    };
    set(new, POLICY, policy);
}

/// With policy SingleStack and lists left as they were, trims both; with any other policy, a
/// shortened list is an error (S10).
fn release_secondary(new: &mut Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let lists = [(CLUSTER_IPS, "cluster IP"), (FAMILIES, "IP family")];
    let single = new.text(POLICY) == "SingleStack";
    for (pointer, what) in lists {
        let (now, before) = (new.list(pointer).len(), old.list(pointer).len());
        if single && same_list(new, old, pointer) && now > 1 {
            let first = new.list(pointer)[0].clone();
            set(new, pointer, json!([first]));
        } else if !single && now != 0 && now < before {
            let text = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(invalid("spec.ipFamilyPolicy", new.at(POLICY).clone(), text));
        }
    }
    errors
}

fn check_policy(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if service.text(POLICY) != "SingleStack" {
        return errors;
    }
    for (pointer, what) in [(CLUSTER_IPS, "cluster IPs"), (FAMILIES, "IP families")] {
        if service.list(pointer).len() == 2 {
            let text = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.push(invalid("spec.ipFamilyPolicy", "SingleStack", text));
        }
    }
    errors
}

/// Appends the families of cluster IPs that have no family beside them.
fn infer_families(service: &mut Value, env: &Env) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut families = service.list(FAMILIES).to_vec();
    for (index, address) in service.texts(CLUSTER_IPS).into_iter().enumerate() {
        if address == "None" {
            break;
        }
        let Some(family) = family_of(address) else { continue };
        if index < families.len() {
            continue;
        }
        if env.families().iter().any(|known| known.as_str() == family) {
            families.push(family.into());
        } else {
            let field = format!("spec.clusterIPs[{index}]");
            let text = format!("{family} is not configured on this cluster");
            errors.push(invalid(field, service.at(CLUSTER_IPS).clone(), text));
        }
    }
    if !families.is_empty() {
        set(service, FAMILIES, families);
    }
    errors
}

fn check_cluster(service: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let cluster = env.families();
    if service.text(POLICY) == "RequireDualStack" && cluster.len() < 2 {
        let text = "this cluster is not configured for dual-stack services";
        errors.push(invalid("spec.ipFamilyPolicy", "RequireDualStack", text));
    }
    for (index, family) in service.texts(FAMILIES).into_iter().enumerate() {
        if !cluster.iter().any(|known| known.as_str() == family) {
            let field = format!("spec.ipFamilies[{index}]");
            errors.push(invalid(field, family, "not configured on this cluster"));
        }
    }
    errors
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn same_list(new: &Value, old: &Value, pointer: &str) -> bool {
    new.list(pointer) == old.list(pointer)
}

const CLUSTER_IPS: &str = "/spec/clusterIPs";
const FAMILIES: &str = "/spec/ipFamilies";
const POLICY: &str = "/spec/ipFamilyPolicy";
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
