//! Environment variables: Services, ConfigMaps, Secrets, the downward API and `$(NAME)`.
//!
//! Order and precedence as in the real kubelet: Services first, then `envFrom`, then `env`; the
//! later one wins, and `$(NAME)` sees what came before it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::spec::{Container, EnvSource, KeyRef, text_map};

/// ConfigMaps and Secrets that a container refers to, by kind and name; `None` when absent.
pub(crate) type Objects = BTreeMap<(Source, String), Option<Value>>;

/// Kind of an object with keys and values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Source {
    ConfigMap,
    Secret,
}

/// What `env` needs to know besides the container.
pub(crate) struct Surroundings<'a> {
    /// The Pod with the status that it is about to get.
    pub(crate) pod: &'a Value,
    /// Services that the pod shall know by variables.
    pub(crate) services: &'a [std::rc::Rc<Value>],
    pub(crate) objects: &'a Objects,
}

/// The objects that a container's environment refers to, and whether it can do without.
pub(crate) fn references(container: &Container) -> Vec<(Source, String)> {
    let from = container.env_from.iter().flat_map(|from| {
        let config_map =
            from.config_map_ref.as_ref().map(|name| (Source::ConfigMap, name.name.clone()));
        config_map
            .into_iter()
            .chain(from.secret_ref.as_ref().map(|name| (Source::Secret, name.name.clone())))
    });
    let sources = container.env.iter().filter_map(|variable| variable.value_from.as_ref());
    let single = sources.flat_map(|source| {
        let config_map =
            source.config_map_key_ref.as_ref().map(|key| (Source::ConfigMap, key.name.clone()));
        config_map
            .into_iter()
            .chain(source.secret_key_ref.as_ref().map(|key| (Source::Secret, key.name.clone())))
    });
    from.chain(single).collect()
}

/// The environment of a container.
///
/// # Errors
/// The reference that leads nowhere, in the words of `CreateContainerConfigError`.
pub(crate) fn env(
    container: &Container,
    around: &Surroundings<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = service_variables(around.services);
    for from in &container.env_from {
        for (source, name) in
            [(Source::ConfigMap, &from.config_map_ref), (Source::Secret, &from.secret_ref)]
        {
            let Some(name) = name else { continue };
            match around.objects.get(&(source, name.name.clone())).and_then(Option::as_ref) {
                Some(object) => {
                    let data = data(source, object);
                    env.extend(
                        data.into_iter()
                            .map(|(key, value)| (format!("{}{key}", from.prefix), lossy(value))),
                    );
                }
                None if name.optional => {}
                None => return Err(not_found(source, &name.name)),
            }
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            Some(source) => sourced(container, source, around)?,
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &env)),
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// Replaces `$(NAME)` by the variable's value; `$$(NAME)` stands for `$(NAME)`, and an unknown
/// name stays as it is.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            tail.strip_prefix('(').and_then(|tail| tail.split_once(')'))
        {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out + rest
}

/// A field of the downward API, such as `status.podIP` or `metadata.labels['app']`.
pub(crate) fn field(pod: &Value, path: &str) -> Option<String> {
    if let Some((map, key)) =
        path.split_once("['").and_then(|(map, key)| Some((map, key.strip_suffix("']")?)))
    {
        let map = map.strip_prefix("metadata.")?;
        return Some(pod["metadata"][map][key].as_str().unwrap_or_default().to_owned());
    }
    match path {
        "metadata.labels" | "metadata.annotations" => {
            let map = text_map(&pod["metadata"][path.trim_start_matches("metadata.")]);
            Some(
                map.iter()
                    .map(|(key, value)| format!("{key}={value:?}"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            )
        }
        "status.podIPs" | "status.hostIPs" => {
            let list = pod["status"][path.trim_start_matches("status.")].as_array()?;
            Some(list.iter().filter_map(|entry| entry["ip"].as_str()).collect::<Vec<_>>().join(","))
        }
        "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.serviceAccountName"
        | "status.podIP"
        | "status.hostIP" => {
            let (part, name) = path.split_once('.')?;
            Some(pod[part][name].as_str().unwrap_or_default().to_owned())
        }
        _ => None,
    }
}

/// A limit or request as a plain number: cores rounded up, bytes.
pub(crate) fn resource(container: &Container, resource: &str) -> Option<String> {
    let (kind, name) = resource.split_once('.')?;
    let quantity =
        container.resources[kind][name].as_str().map_or_else(|| "0".to_owned(), str::to_owned);
    let digits = quantity.trim_end_matches(|letter: char| letter.is_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let scale = match &quantity[digits.len()..] {
        "m" => 0.001,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => 1.0,
    };
    Some(format!("{:.0}", (number * scale).ceil()))
}

/// Keys and values of a ConfigMap or Secret, as bytes.
pub(crate) fn data(source: Source, object: &Value) -> BTreeMap<String, Vec<u8>> {
    let decode = |text: &str| STANDARD.decode(text).unwrap_or_default();
    let plain = text_map(&object["data"]);
    let mut all: BTreeMap<String, Vec<u8>> = match source {
        Source::ConfigMap => plain
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
            .collect(),
        Source::Secret => {
            plain.into_iter().map(|(key, value)| (key.to_owned(), decode(value))).collect()
        }
    };
    all.extend(
        text_map(&object["binaryData"])
            .into_iter()
            .map(|(key, value)| (key.to_owned(), decode(value))),
    );
    all
}

/// `{SERVICE}_SERVICE_HOST` and the rest, for Services with a cluster address.
fn service_variables(services: &[std::rc::Rc<Value>]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for service in services {
        let Some(address) = service["spec"]["clusterIP"]
            .as_str()
            .filter(|address| !address.is_empty() && *address != "None")
        else {
            continue;
        };
        let upper = |text: &str| text.to_uppercase().replace('-', "_");
        let name = upper(service["metadata"]["name"].as_str().unwrap_or_default());
        let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
        env.insert(format!("{name}_SERVICE_HOST"), address.to_owned());
        for (index, port) in ports.iter().enumerate() {
            let number = port["port"].as_u64().unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            let bracketed =
                if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let url = format!("{}://{bracketed}:{number}", protocol.to_lowercase());
            if index == 0 {
                env.insert(format!("{name}_SERVICE_PORT"), number.to_string());
                env.insert(format!("{name}_PORT"), url.clone());
            }
            if let Some(port_name) = port["name"].as_str().filter(|name| !name.is_empty()) {
                env.insert(format!("{name}_SERVICE_PORT_{}", upper(port_name)), number.to_string());
            }
            let prefix = format!("{name}_PORT_{number}_{protocol}");
            env.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            env.insert(format!("{prefix}_PORT"), number.to_string());
            env.insert(format!("{prefix}_ADDR"), address.to_owned());
            env.insert(prefix, url);
        }
    }
    env
}

fn sourced(
    container: &Container,
    source: &EnvSource,
    around: &Surroundings<'_>,
) -> Result<Option<String>, String> {
    if let Some(reference) = &source.field_ref {
        let unknown =
            || format!("the downward API does not know the field {:?}", reference.field_path);
        return field(around.pod, &reference.field_path).map(Some).ok_or_else(unknown);
    }
    if let Some(reference) = &source.resource_field_ref {
        return Ok(resource(container, &reference.resource));
    }
    for (kind, key) in
        [(Source::ConfigMap, &source.config_map_key_ref), (Source::Secret, &source.secret_key_ref)]
    {
        if let Some(key) = key {
            return keyed(kind, key, around);
        }
    }
    Ok(None)
}

fn keyed(
    source: Source,
    key: &KeyRef,
    around: &Surroundings<'_>,
) -> Result<Option<String>, String> {
    let Some(object) = around.objects.get(&(source, key.name.clone())).and_then(Option::as_ref)
    else {
        return if key.optional { Ok(None) } else { Err(not_found(source, &key.name)) };
    };
    match data(source, object).remove(&key.key) {
        Some(value) => Ok(Some(lossy(value))),
        None if key.optional => Ok(None),
        None => Err(format!("couldn't find key {} in {source:?} {}", key.key, key.name)),
    }
}

fn not_found(source: Source, name: &str) -> String {
    format!("{} {name:?} not found", format!("{source:?}").to_lowercase())
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_expanded_escaped_or_left() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("$(A) $$(A) $(B) $A $", &env), "1 $(A) $(B) $A $");
    }

    #[test]
    fn later_sources_win_and_see_earlier_ones() {
        let container: Container = serde_json::from_value(json!({
            "env": [{"name": "HOST", "value": "http://$(MY_SVC_SERVICE_HOST)"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
        }))
        .unwrap();
        let service = json!({"metadata": {"name": "my-svc"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}});
        let objects = Objects::from([(
            (Source::ConfigMap, "c".to_owned()),
            Some(json!({"data": {"K": "v"}})),
        )]);
        let pod = json!({"status": {"podIP": "10.244.1.2"}});
        let around = Surroundings { pod: &pod, services: &[service.into()], objects: &objects };
        let env = env(&container, &around).unwrap();
        assert_eq!(env["HOST"], "http://10.96.0.7");
        assert_eq!(env["IP"], "10.244.1.2");
        assert_eq!(env["P_K"], "v");
        assert_eq!(env["MY_SVC_PORT_80_TCP"], "tcp://10.96.0.7:80");
    }

    #[test]
    fn a_missing_object_is_named_unless_optional() {
        let container = |optional: bool| -> Container {
            serde_json::from_value(
                json!({"envFrom": [{"secretRef": {"name": "s", "optional": optional}}]}),
            )
            .unwrap()
        };
        let around = Surroundings { pod: &Value::Null, services: &[], objects: &Objects::new() };
        assert_eq!(env(&container(false), &around).unwrap_err(), "secret \"s\" not found");
        assert!(env(&container(true), &around).unwrap().is_empty());
    }

    #[test]
    fn quantities_become_numbers() {
        let container: Container = serde_json::from_value(
            json!({"resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}),
        )
        .unwrap();
        assert_eq!(resource(&container, "limits.cpu").unwrap(), "2");
        assert_eq!(resource(&container, "limits.memory").unwrap(), "67108864");
    }
}
