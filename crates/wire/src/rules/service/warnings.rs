//! `Warning` headers of a Service write (semantics 1.9).

use serde_json::Value;

use super::{is_headless, service_type};
use crate::rules::fields::Fields;
use crate::rules::ip::{address_warning, cidr_warning};

/// What the server warns of (S12).
pub(crate) fn warnings(service: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if service.at("/metadata/annotations").get(HINTS).is_some() {
        warnings.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    let headless = is_headless(service);
    if !headless {
        warnings.extend(each_address(service, "clusterIPs"));
    }
    let external_ips = !service.list("/spec/externalIPs").is_empty();
    if headless {
        let ignored = [
            ("loadBalancerIP", !service.text("/spec/loadBalancerIP").is_empty()),
            ("externalIPs", external_ips),
            ("SessionAffinity", service.text("/spec/sessionAffinity") == "ClientIP"),
        ];
        for (field, _) in ignored.iter().filter(|(_, given)| *given) {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
    }
    warnings.extend(each_address(service, "externalIPs"));
    let hint = service.text("/spec/loadBalancerIP");
    warnings.extend(address_warning("spec.loadBalancerIP", hint));
    for (index, range) in service.texts("/spec/loadBalancerSourceRanges").iter().enumerate() {
        let field = format!("spec.loadBalancerSourceRanges[{index}]");
        warnings.extend(cidr_warning(&field, range));
    }
    let alias = service_type(service) == "ExternalName";
    if external_ips && alias {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    } else if external_ips && !headless {
        let text =
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
        warnings.push(text.to_owned());
    }
    if !alias && !service.text("/spec/externalName").is_empty() {
        let text = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
        warnings.push(text.to_owned());
    }
    for (index, ingress) in service.list("/status/loadBalancer/ingress").iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{index}]");
        warnings.extend(address_warning(&field, ingress.text("/ip")));
    }
    warnings
}

fn each_address(service: &Value, list: &str) -> Vec<String> {
    let addresses = service.texts(&format!("/spec/{list}"));
    let warning = |(index, address): (usize, &&str)| {
        address_warning(&format!("spec.{list}[{index}]"), address)
    };
    addresses.iter().enumerate().filter_map(warning).collect()
}

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
