//! Services.

use model::{Ingress, IpMode, ServiceName, Uid};
use serde_json::{Value, json};

use super::{Call, path};

/// Writes the load balancer's addresses.
pub(super) fn ingress(name: &ServiceName, uid: &Uid, ingress: &[Ingress]) -> Call {
    let entry = |ingress: &Ingress| match ingress {
        Ingress::Ip(address, mode) => {
            let mode = match mode {
                IpMode::Vip => "VIP",
                IpMode::Proxy => "Proxy",
            };
            json!({ "ip": address.to_string(), "ipMode": mode })
        }
        Ingress::Hostname(hostname) => json!({ "hostname": hostname }),
    };
    let entries: Vec<Value> = ingress.iter().map(entry).collect();
    let entries = if entries.is_empty() { Value::Null } else { entries.into() };
    let body = json!({
        "metadata": { "uid": uid.as_str() },
        "status": { "loadBalancer": { "ingress": entries } },
    });
    Call::merge(format!("{}/status", object(name)), body)
}

/// Adds or removes a finalizer.
pub(super) fn finalizer(name: &ServiceName, uid: &Uid, finalizer: &str, present: bool) -> Call {
    let field = if present { "finalizers" } else { "$deleteFromPrimitiveList/finalizers" };
    let body = json!({ "metadata": { "uid": uid.as_str(), field: [finalizer] } });
    Call::strategic(object(name), body)
}

fn object(name: &ServiceName) -> String {
    path("", "v1", &name.namespace, "services", &name.name)
}
