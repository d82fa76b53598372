//! Reading a KubeProxyConfiguration: strictly, each field by the table.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use super::fields::{FIELDS, Field, Kind};
use super::{API_VERSION, Configuration, KIND, duration};
use crate::manifests::{self, Manifest};

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no KubeProxyConfiguration, or a field is unknown or senseless;
    /// names file, line and field.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        Self::from_manifest(&manifests::read_document(path)?)
    }

    fn from_manifest(manifest: &Manifest) -> anyhow::Result<Self> {
        for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            if manifest.value[field] != wanted {
                bail!(
                    "{}: {field} is {}, not {wanted:?}",
                    manifest.place(field),
                    manifest.value[field]
                );
            }
        }
        let mut configuration = Self::default();
        configuration.take("", &manifest.value, manifest)?;
        Ok(configuration)
    }

    /// Takes the object at `prefix`.
    fn take(&mut self, prefix: &str, object: &Value, manifest: &Manifest) -> anyhow::Result<()> {
        let place = |path: &str| manifest.place(path);
        let Value::Object(members) = object else {
            if object.is_null() {
                return Ok(());
            }
            bail!("{}: {prefix} has to be an object", place(prefix));
        };
        for (name, value) in members {
            let dot = if prefix.is_empty() { "" } else { "." };
            let path = format!("{prefix}{dot}{name}");
            if let Some(field) = Field::at(&path) {
                let value = field.resolve(value.clone());
                match field.kind.check(&value) {
                    Ok(value) => self.set(field, field.resolve(value)),
                    Err(wanted) => bail!("{}: {path} is {value}, not {wanted}", place(&path)),
                }
            } else if FIELDS.iter().any(|field| field.path.starts_with(&format!("{path}."))) {
                self.take(&path, value, manifest)?;
            } else if !(prefix.is_empty() && ["apiVersion", "kind"].contains(&name.as_str())) {
                bail!("{}: unknown field {path}", place(&path));
            }
        }
        Ok(())
    }
}

impl Kind {
    /// The value in its usual form, or what is wanted instead.
    pub(super) fn check(self, value: &Value) -> Result<Value, String> {
        let wanted = || Err(self.wanted());
        match (self, value) {
            (_, Value::Null) => Ok(Value::Null),
            (Self::Text | Self::Quantity, Value::String(_))
            | (Self::Bool, Value::Bool(_))
            | (Self::Float, Value::Number(_)) => Ok(value.clone()),
            (Self::Quantity, Value::Number(number)) => Ok(number.to_string().into()),
            (Self::Int(least, most), Value::Number(number)) => match number.as_i64() {
                Some(number) if (least..=most).contains(&number) => Ok(number.into()),
                _ => wanted(),
            },
            (Self::Duration | Self::Period, Value::String(text)) => match duration::parse(text) {
                Some(duration) => Ok(duration::print(duration).into()),
                None => wanted(),
            },
            (Self::Period, Value::Number(number)) => match number.as_u64() {
                Some(nanos) => Ok(duration::print(std::time::Duration::from_nanos(nanos)).into()),
                None => wanted(),
            },
            (Self::List, Value::Array(items)) if items.iter().all(Value::is_string) => {
                Ok(value.clone())
            }
            (Self::Modules, Value::Array(items)) if items.iter().all(Value::is_object) => {
                Ok(value.clone())
            }
            (Self::Map, Value::Object(members)) if members.values().all(Value::is_boolean) => {
                Ok(value.clone())
            }
            _ => wanted(),
        }
    }

    /// What to write instead, for people.
    pub(super) fn wanted(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Int(least, most) => format!("a number from {least} to {most}"),
            Self::Float => "a number".to_owned(),
            Self::Duration | Self::Period => "a duration such as 30s or 1h30m".to_owned(),
            Self::List => "a list of texts".to_owned(),
            Self::Map => "names with true or false".to_owned(),
            Self::Modules => "a list of filePattern and verbosity".to_owned(),
            Self::Quantity => "a quantity such as 64Ki".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> anyhow::Result<Configuration> {
        Configuration::from_manifest(&manifests::document("config.conf", text)?)
    }

    fn with(fields: &str) -> String {
        format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{fields}")
    }

    /// As kubeadm writes it: every field is there, unset ones as zero or null.
    const KUBEADM: &str = "\
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  contentType: \"\"
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal: {bridgeInterface: \"\", interfaceNamePrefix: \"\"}
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: \"\"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options: {json: {infoBufferSize: \"0\"}, text: {infoBufferSize: \"0\"}}
  verbosity: 0
metricsBindAddress: \"\"
mode: \"\"
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: \"\"
  rootHnsEndpointName: \"\"
  sourceVip: \"\"
";

    #[test]
    fn what_kubeadm_writes_is_understood_without_a_warning() {
        let configuration = parse(&with(KUBEADM)).unwrap();
        assert_eq!(configuration.unsupported().collect::<Vec<_>>(), [""; 0]);
        let set: Vec<_> = configuration.set.keys().copied().collect();
        assert_eq!(set, ["clientConnection.kubeconfig", "clusterCIDR"]);
        let whole = configuration.to_json();
        assert_eq!(whole["conntrack"]["tcpEstablishedTimeout"], "24h0m0s");
        assert_eq!(whole["iptables"]["syncPeriod"], "30s");
        assert_eq!(whole["clientConnection"]["qps"], 5);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let configuration =
            parse(&with("clusterCIDR: 10.0.0.0/8\nipvs: {scheduler: rr}\n")).unwrap();
        let text = serde_saphyr::to_string(&configuration.to_json()).unwrap();
        assert_eq!(parse(&text).unwrap(), configuration);
    }

    #[test]
    fn every_ignored_field_is_named_once_with_its_reason() {
        let text = with("mode: ipvs\nipvs: {scheduler: rr, strictARP: true}\nportRange: 1-2\n");
        let warnings: Vec<_> = parse(&text).unwrap().unsupported().collect();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("ipvs.scheduler is ignored: "), "{warnings:?}");
    }

    #[test]
    fn errors_name_line_and_field() {
        for (fields, wanted) in [
            ("clusterCIDR: a\nclusterCidr: b\n", "config.conf:4: unknown field clusterCidr"),
            (
                "iptables:\n  masqueradeBits: 1\n",
                "config.conf:4: unknown field iptables.masqueradeBits",
            ),
            (
                "iptables:\n  masqueradeBit: 32\n",
                "config.conf:4: iptables.masqueradeBit is 32, not a number from 0 to 31",
            ),
            (
                "conntrack: {udpTimeout: 5}\n",
                "config.conf:3: conntrack.udpTimeout is 5, not a duration such as 30s or 1h30m",
            ),
            ("iptables: true\n", "config.conf:3: iptables has to be an object"),
        ] {
            let error = parse(&with(fields)).unwrap_err().to_string();
            assert_eq!(error, wanted);
        }
        let error = parse("apiVersion: v1\nkind: Pod\n").unwrap_err().to_string();
        assert!(error.starts_with("config.conf:1: apiVersion is \"v1\""), "{error}");
    }

    #[test]
    fn values_have_to_be_of_the_right_kind() {
        let of = |kind: Kind, value: Value| kind.check(&value);
        assert_eq!(of(Kind::Duration, json!("90s")), Ok(json!("1m30s")));
        assert_eq!(of(Kind::Period, json!(5_000_000_000_u64)), Ok(json!("5s")));
        assert!(of(Kind::Duration, json!(5)).is_err());
        assert!(of(Kind::Bool, json!("true")).is_err());
        assert!(of(Kind::Map, json!({"A": "true"})).is_err());
    }
}
