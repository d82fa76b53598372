//! `apply` and `delete`: manifests to the lab's API server.

use std::path::Path;

use anyhow::{Context, bail};
use cluster::Client;
use http::Method;
use serde_json::json;
use wire::kinds::KindRow;

use crate::args::Files;
use crate::manifests::{self, Manifest};
use crate::report;

/// `apply -f`: server-side apply of every object, in the order of the files.
pub(crate) fn apply(arguments: &Files) -> anyhow::Result<()> {
    let manifests = manifests::read(&arguments.files)?;
    check(&manifests)?;
    with_client(&arguments.state.dir(), async |client| {
        for manifest in &manifests {
            let path = format!(
                "{}?fieldManager=portolan&force=true&fieldValidation=Strict",
                path(manifest)?
            );
            let content = "application/apply-patch+yaml";
            client
                .exchange(Method::PATCH, &path, content, Some(&manifest.value))
                .await
                .with_context(|| format!("{}: apply {}", manifest.place(""), manifest.title()))?;
            report::results(&format!("{} applied\n", manifest.title()));
        }
        Ok(())
    })
}

/// `delete -f`: deletes every object, in reverse order; missing ones are no error.
pub(crate) fn delete(arguments: &Files) -> anyhow::Result<()> {
    let manifests = manifests::read(&arguments.files)?;
    with_client(&arguments.state.dir(), async |client| {
        for manifest in manifests.iter().rev() {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
            let deleted = client
                .exchange(Method::DELETE, &path(manifest)?, "application/json", Some(&options))
                .await;
            match deleted {
                Ok(_) => report::results(&format!("{} deleted\n", manifest.title())),
                Err(error) if error.is_gone() => {
                    report::warning(&format!("{} did not exist", manifest.title()));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("delete {}", manifest.title()));
                }
            }
        }
        Ok(())
    })
}

/// Finds unknown kinds and fields and values of the wrong type before anything is started.
pub(crate) fn check(manifests: &[Manifest]) -> anyhow::Result<()> {
    for manifest in manifests {
        let row = row(manifest)?;
        let expected = wire::schema::Gvk { group: row.group, version: row.version, kind: row.kind };
        let body = serde_json::to_vec(&manifest.value).context("print an object as JSON")?;
        let strict = wire::decode::FieldValidation::Strict;
        let decoded =
            wire::decode::object(&body, wire::decode::ContentType::Json, expected, strict);
        if let Err(failure) = decoded {
            let field = field_of(&failure.message).unwrap_or_default();
            bail!("{}: {}: {}", manifest.place(field), manifest.title(), failure.message);
        }
    }
    Ok(())
}

/// The field that a message is about: `unknown field "spec.foo"`, or
/// `Go struct field ServicePort.spec.ports.port of type int32`, as the API server words them.
fn field_of(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once("field \"") {
        return rest.split_once('"').map(|(field, _)| field);
    }
    let (_, rest) = message.split_once("Go struct field ")?;
    let (field, _) = rest.split_once(" of type")?;
    field.split_once('.').map(|(_go_type, path)| path)
}

fn row(manifest: &Manifest) -> anyhow::Result<&'static KindRow> {
    let text = |field: &str| manifest.value[field].as_str().unwrap_or_default();
    let (group, version) =
        text("apiVersion").rsplit_once('/').unwrap_or_else(|| ("", text("apiVersion")));
    let row = wire::kinds::kinds()
        .iter()
        .find(|row| row.group == group && row.version == version && row.kind == text("kind"));
    let Some(row) = row else {
        bail!(
            "{}: the lab does not serve kind {:?} of apiVersion {:?} (kubectl api-resources lists what it serves)",
            manifest.place("kind"),
            text("kind"),
            text("apiVersion"),
        );
    };
    Ok(row)
}

fn path(manifest: &Manifest) -> anyhow::Result<String> {
    let row = row(manifest)?;
    let metadata = &manifest.value["metadata"];
    let Some(name) = metadata["name"].as_str() else {
        bail!("{}: field metadata.name is missing", manifest.place("metadata"));
    };
    let root = if row.group.is_empty() { "api".to_owned() } else { format!("apis/{}", row.group) };
    let namespace = if row.namespaced {
        format!("/namespaces/{}", metadata["namespace"].as_str().unwrap_or("default"))
    } else {
        String::new()
    };
    Ok(format!("/{root}/{}{namespace}/{}/{name}", row.version, row.plural))
}

fn with_client(
    state: &Path,
    work: impl AsyncFnOnce(Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let kubeconfig = lab::client::status(state)?.kubeconfig;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let client = Client::from_kubeconfig(&kubeconfig).await?;
        work(client).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_field() {
        let message = "strict decoding error: unknown field \"spec.typ\"";
        assert_eq!(field_of(message), Some("spec.typ"));
        let message = "json: cannot unmarshal string into Go struct field \
                       ServicePort.spec.ports.port of type int32";
        assert_eq!(field_of(message), Some("spec.ports.port"));
        assert_eq!(field_of("nothing"), None);
    }
}
