//! kube-proxy's flags, made from the table: each sets the field that the file has for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::Configuration;
use super::fields::{FIELDS, Field, Kind, Support};

/// Flags that were given, with their values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) given: BTreeMap<&'static str, String>,
}

/// Flags that count beside a configuration file too, as upstream has it.
fn counts_beside_file(field: &Field) -> bool {
    field.path == "hostnameOverride" || field.path.starts_with("logging.")
}

impl Flags {
    /// A configuration made from flags only.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub(super) fn configuration(&self) -> anyhow::Result<Configuration> {
        let mut configuration = Configuration::default();
        self.apply(&mut configuration, |_| true)?;
        Ok(configuration)
    }

    /// Lets the flags that count beside a file override it; returns a warning for each other one.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub(super) fn override_file(
        &self,
        configuration: &mut Configuration,
    ) -> anyhow::Result<Vec<String>> {
        self.apply(configuration, counts_beside_file)?;
        let warning = |field: &Field| {
            let Field { flag, path, .. } = field;
            format!("--{flag} is ignored because of --config: set {path} in the file")
        };
        let mut seen = BTreeSet::new();
        Ok(FIELDS
            .iter()
            .filter(|field| self.given.contains_key(field.flag) && !counts_beside_file(field))
            .filter(|field| seen.insert(field.flag))
            .map(warning)
            .collect())
    }

    fn apply(
        &self,
        configuration: &mut Configuration,
        counts: impl Fn(&Field) -> bool,
    ) -> anyhow::Result<()> {
        for field in FIELDS.iter().filter(|field| counts(field)) {
            if let Some(text) = self.given.get(field.flag) {
                let value =
                    field.kind.read(text).with_context(|| format!("read --{}", field.flag))?;
                configuration.set(field, value);
            }
        }
        Ok(())
    }
}

impl Kind {
    /// The value of a flag.
    fn read(self, text: &str) -> anyhow::Result<Value> {
        let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let value = match self {
            Self::Text | Self::Quantity | Self::Duration | Self::Period => text.into(),
            Self::Bool => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true.into(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false.into(),
                _ => text.into(),
            },
            Self::Int(..) => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            Self::Float => text.parse::<f64>().map_or_else(|_| text.into(), Value::from),
            Self::List => items().collect::<Vec<_>>().into(),
            Self::Map => {
                let mut map = serde_json::Map::new();
                for item in items() {
                    let (name, truth) = item.split_once('=').unwrap_or((item, ""));
                    map.insert(name.to_owned(), Self::Bool.read(truth)?);
                }
                map.into()
            }
            Self::Modules => {
                let module = |item: &str| {
                    let (pattern, level) = item.split_once('=')?;
                    let level: u32 = level.parse().ok()?;
                    Some(json!({ "filePattern": pattern, "verbosity": level }))
                };
                let modules: Option<Vec<Value>> = items().map(module).collect();
                modules.map_or_else(|| text.into(), Value::from)
            }
        };
        match self.check(&value) {
            Ok(value) => Ok(value),
            Err(wanted) => bail!("{text:?} is not {wanted}"),
        }
    }

    fn value_name(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Bool => "BOOL",
            Self::Int(..) | Self::Float => "N",
            Self::Duration | Self::Period => "DURATION",
            Self::List => "LIST",
            Self::Map | Self::Modules => "NAME=VALUE",
            Self::Quantity => "QUANTITY",
        }
    }
}

/// What `--help` shows in place of a value.
fn value_name(field: &Field) -> &'static str {
    match field.flag {
        "kubeconfig" => "FILE",
        "hostname-override" => "NODE",
        "bind-address" => "IP",
        "healthz-bind-address" | "metrics-bind-address" => "ADDR",
        "cluster-cidr" => "CIDR",
        "detect-local-mode" | "proxy-mode" => "MODE",
        _ => field.kind.value_name(),
    }
}

fn argument(field: &'static Field) -> Arg {
    let argument = Arg::new(field.flag)
        .long(field.flag)
        .value_name(value_name(field))
        .help_heading("kube-proxy's flags")
        .allow_hyphen_values(matches!(field.kind, Kind::Int(..)));
    let argument = match field.kind {
        Kind::Bool => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        // An empty one means something.
        Kind::Text | Kind::List => argument,
        _ => argument.value_parser(NonEmptyStringValueParser::new()),
    };
    let argument = if field.flag == "v" { argument.short('v') } else { argument };
    match field.support {
        Support::Used(help) => argument.help(capitalized(help)),
        Support::Ignored(reason) => argument.help(format!("Ignored: {reason}")).hide(true),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// The rows of the table that have a flag, each flag once.
fn rows() -> impl Iterator<Item = &'static Field> {
    let mut seen = BTreeSet::new();
    FIELDS.iter().filter(move |field| !field.flag.is_empty() && seen.insert(field.flag))
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        rows().fold(command, |command, field| command.arg(argument(field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |field: &'static Field| {
            let value = matches.get_one::<String>(field.flag)?;
            Some((field.flag, value.clone()))
        };
        Ok(Self { given: rows().filter_map(value).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.extend(Self::from_arg_matches(matches)?.given);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(given: &[(&'static str, &str)]) -> Flags {
        Flags { given: given.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect() }
    }

    #[test]
    fn a_flag_sets_its_field() {
        let configuration = flags(&[
            ("masquerade-all", "true"),
            ("nodeport-addresses", "10.0.0.0/8, primary"),
            ("conntrack-max-per-core", "0"),
            ("feature-gates", "A=true,B=false"),
            ("iptables-sync-period", "1m"),
            ("vmodule", "proxier=4"),
        ])
        .configuration()
        .unwrap()
        .to_json();
        assert_eq!(configuration["iptables"]["masqueradeAll"], true);
        assert_eq!(configuration["nftables"]["masqueradeAll"], true);
        assert_eq!(configuration["nodePortAddresses"], json!(["10.0.0.0/8", "primary"]));
        assert_eq!(configuration["conntrack"]["maxPerCore"], 0);
        assert_eq!(configuration["featureGates"], json!({"A": true, "B": false}));
        assert_eq!(configuration["iptables"]["syncPeriod"], "1m0s");
        assert_eq!(
            configuration["logging"]["vmodule"],
            json!([{"filePattern": "proxier", "verbosity": 4}])
        );
    }

    #[test]
    fn a_bad_value_names_its_flag() {
        for (flag, value, wanted) in [
            ("conntrack-min", "many", "\"many\" is not a number from 0 to 2147483647"),
            ("iptables-masquerade-bit", "32", "\"32\" is not a number from 0 to 31"),
            ("sync-period", "5", "\"5\" is not a duration such as 30s or 1h30m"),
            ("feature-gates", "A", "\"\" is not true or false"),
        ] {
            let error = flags(&[(flag, value)]).configuration().unwrap_err();
            assert_eq!(error.to_string(), format!("read --{flag}"));
            assert_eq!(error.root_cause().to_string(), wanted);
        }
    }

    #[test]
    fn beside_a_file_only_the_name_and_the_log_level_count() {
        let mut configuration = Configuration::default();
        let flags = flags(&[("hostname-override", "a"), ("v", "4"), ("masquerade-all", "true")]);
        let warnings = flags.override_file(&mut configuration).unwrap();
        assert_eq!(configuration.text("hostnameOverride"), "a");
        assert_eq!(configuration.number("logging.verbosity"), 4);
        assert!(!configuration.truth("iptables.masqueradeAll"));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("--masquerade-all is ignored because of --config"));
    }
}
