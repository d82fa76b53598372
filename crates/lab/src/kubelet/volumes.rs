//! The files of a pod: its volumes, and where containers see them.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cluster::{Client, TokenRequest};
use serde_json::Value;

use super::env::{self, Source};
use super::spec::{Container, DownwardSource, ObjectSource, PodSpec, TokenSource, Volume};
use crate::error::chain;
use crate::files::{self, Resolver};
use crate::launch::{Mount, Root};

/// The lifetime of a token that asks for none, as the API defaults it.
const TOKEN_SECONDS: u32 = 3600;

/// What making a pod's files needs.
pub(crate) struct Making<'a> {
    pub(crate) client: &'a Client,
    pub(crate) pod: &'a Value,
    pub(crate) spec: &'a PodSpec,
    pub(crate) folder: &'a Path,
}

/// A token file and what it was made from, to be renewed.
#[derive(Clone, Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    request: TokenRequest,
}

impl Making<'_> {
    /// Makes all volumes. Returns the tokens that must be renewed in time.
    ///
    /// # Errors
    /// In the words of a `FailedMount` event.
    pub(crate) async fn volumes(&self) -> Result<Vec<TokenFile>, String> {
        let mut tokens = Vec::new();
        for volume in &self.spec.volumes {
            let path = self.path_of(volume);
            self.volume(volume, &path, &mut tokens).await.map_err(|error| {
                format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name)
            })?;
        }
        Ok(tokens)
    }

    /// The view of the file system of one container.
    ///
    /// # Errors
    /// A mount of a volume that the pod does not have.
    pub(crate) fn root(
        &self,
        container: &Container,
        hostname: &str,
        addresses: &[IpAddr],
    ) -> Result<Root, String> {
        let namespace = self.pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut hosts = files::pod_hosts(addresses, hostname);
        for alias in &self.spec.host_aliases {
            hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
        let resolv_conf = self.resolver(namespace).to_string();
        let mut root = files::root(self.folder, hostname, &hosts, &resolv_conf)
            .map_err(|error| error.to_string())?;
        for mount in &container.volume_mounts {
            let volume = self.spec.volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.ok_or_else(|| format!("the pod has no volume {:?}", mount.name))?;
            let mut source = self.path_of(volume);
            if !mount.sub_path.is_empty() {
                source = sub_path(&source, &mount.sub_path)?;
            }
            root.mounts.push(Mount {
                source,
                target: PathBuf::from(&mount.mount_path),
                read_only: mount.read_only,
                optional: false,
            });
        }
        Ok(root)
    }

    /// How the pod finds names: as its policy says, and what it adds itself.
    fn resolver(&self, namespace: &str) -> Resolver {
        let cluster_first = match self.spec.dns_policy.as_deref() {
            Some("Default" | "None") => false,
            Some("ClusterFirstWithHostNet") => true,
            _ => !self.spec.host_network,
        };
        let mut resolver =
            if cluster_first { Resolver::cluster(Some(namespace)) } else { Resolver::default() };
        let own = &self.spec.dns_config;
        resolver.nameservers.extend(own.nameservers.iter().cloned());
        resolver.searches.extend(own.searches.iter().cloned());
        for option in &own.options {
            let prefix = format!("{}:", option.name);
            resolver.options.retain(|known| *known != option.name && !known.starts_with(&prefix));
            resolver.options.push(match &option.value {
                Some(value) => prefix + value,
                None => option.name.clone(),
            });
        }
        resolver
    }

    fn path_of(&self, volume: &Volume) -> PathBuf {
        match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => self.folder.join("volumes").join(&volume.name),
        }
    }

    async fn volume(
        &self,
        volume: &Volume,
        path: &Path,
        tokens: &mut Vec<TokenFile>,
    ) -> Result<(), String> {
        if volume.host_path.is_some() {
            return Ok(());
        }
        fs::create_dir_all(path).map_err(|error| error.to_string())?;
        for (kind, source) in
            [(Source::ConfigMap, &volume.config_map), (Source::Secret, &volume.secret)]
        {
            if let Some(source) = source {
                self.object(kind, source, path).await?;
            }
        }
        if let Some(source) = &volume.downward_api {
            self.downward(source, path)?;
        }
        for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
            for (kind, source) in
                [(Source::ConfigMap, &source.config_map), (Source::Secret, &source.secret)]
            {
                if let Some(source) = source {
                    self.object(kind, source, path).await?;
                }
            }
            if let Some(source) = &source.downward_api {
                self.downward(source, path)?;
            }
            if let Some(source) = &source.service_account_token {
                self.token(path, source, tokens).await?;
            }
        }
        let known = volume.empty_dir.is_some()
            || volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some();
        if known {
            Ok(())
        } else {
            Err("the lab has emptyDir, configMap, secret, downwardAPI, projected and hostPath volumes only".to_owned())
        }
    }

    async fn object(
        &self,
        kind: Source,
        source: &ObjectSource,
        folder: &Path,
    ) -> Result<(), String> {
        let namespace = self.pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let Some(object) = fetch(self.client, kind, namespace, &source.name).await? else {
            let missing =
                format!("{} {:?} not found", format!("{kind:?}").to_lowercase(), source.name);
            return if source.optional { Ok(()) } else { Err(missing) };
        };
        let data = env::data(kind, &object);
        let items: Vec<(String, String)> = if source.items.is_empty() {
            data.keys().map(|key| (key.clone(), key.clone())).collect()
        } else {
            source.items.iter().map(|item| (item.key.clone(), item.path.clone())).collect()
        };
        for (key, path) in items {
            match data.get(&key) {
                Some(content) => {
                    write(&folder.join(path), content).map_err(|error| error.to_string())?
                }
                None if source.optional => {}
                None => return Err(format!("references non-existent config key: {key}")),
            }
        }
        Ok(())
    }

    fn downward(&self, source: &DownwardSource, folder: &Path) -> Result<(), String> {
        for item in &source.items {
            let by_field =
                item.field_ref.as_ref().and_then(|field| env::field(self.pod, &field.field_path));
            let by_resource = || {
                env::resource(
                    self.spec.containers.first()?,
                    &item.resource_field_ref.as_ref()?.resource,
                )
            };
            let text = by_field.or_else(by_resource).unwrap_or_default();
            write(&folder.join(&item.path), text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn token(
        &self,
        folder: &Path,
        source: &TokenSource,
        tokens: &mut Vec<TokenFile>,
    ) -> Result<(), String> {
        let metadata = &self.pod["metadata"];
        let text = |value: &Value| model::Name::new(value.as_str().unwrap_or_default());
        let request = TokenRequest {
            namespace: text(&metadata["namespace"]),
            service_account: self.spec.service_account_name.as_deref().unwrap_or_default().into(),
            audiences: Some(source.audience.clone())
                .filter(|audience| !audience.is_empty())
                .into_iter()
                .collect(),
            expiration_seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
            pod: Some((text(&metadata["name"]), text(&metadata["uid"]))),
        };
        let file = TokenFile { path: folder.join(&source.path), request };
        file.write(self.client).await?;
        tokens.push(file);
        Ok(())
    }
}

impl TokenFile {
    /// Renews the token before it expires, for ever.
    pub(crate) async fn keep(self, client: Client) {
        loop {
            // As the real kubelet: when four fifths of its life are over.
            tokio::time::sleep(Duration::from_secs(
                u64::from(self.request.expiration_seconds) * 4 / 5,
            ))
            .await;
            if let Err(error) = self.write(&client).await {
                tracing::warn!(path = %self.path.display(), error, "could not renew a service account token");
            }
        }
    }

    async fn write(&self, client: &Client) -> Result<(), String> {
        let token = client.request_token(&self.request).await.map_err(|error| chain(&error))?;
        write(&self.path, token.token.as_bytes()).map_err(|error| error.to_string())
    }
}

/// A ConfigMap or Secret; `None` when there is none.
///
/// # Errors
/// When the API server does not answer.
pub(crate) async fn fetch(
    client: &Client,
    kind: Source,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, String> {
    let plural = match kind {
        Source::ConfigMap => "configmaps",
        Source::Secret => "secrets",
    };
    match client.get(&format!("/api/v1/namespaces/{namespace}/{plural}/{name}")).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(chain(&error)),
    }
}

/// A part of a volume, made as a folder when it is missing, as the real kubelet does.
fn sub_path(volume: &Path, part: &str) -> Result<PathBuf, String> {
    let part = Path::new(part);
    if part.is_absolute() || part.components().any(|part| part == Component::ParentDir) {
        return Err(format!("subPath {:?} must stay inside its volume", part.display()));
    }
    let path = volume.join(part);
    if !path.exists() {
        fs::create_dir_all(&path)
            .map_err(|error| format!("could not make subPath {:?}: {error}", part.display()))?;
    }
    Ok(path)
}

/// Replaces a file: readers see the old content or the new.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_added_extension("new");
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    io::Write::write_all(&mut file, content)?;
    fs::rename(fresh, path)
}
