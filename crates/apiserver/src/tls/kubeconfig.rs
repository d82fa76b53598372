//! The file by which clients find the server and prove who they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::CertKey;

/// A kubeconfig (`v1 Config`) of one cluster, one user and one context, all named `portolan`.
///
/// `ca_pem` is the authority to check the server against; the client shows `client`.
pub fn kubeconfig(server_url: &str, ca_pem: &str, client: &CertKey) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let encoded = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: portolan\n  \
           cluster:\n    \
             server: {server}\n    \
             certificate-authority-data: {ca}\n\
         users:\n\
         - name: portolan\n  \
           user:\n    \
             client-certificate-data: {cert}\n    \
             client-key-data: {key}\n\
         contexts:\n\
         - name: portolan\n  \
           context:\n    \
             cluster: portolan\n    \
             user: portolan\n\
         current-context: portolan\n",
        server = quoted(server_url),
        ca = encoded(ca_pem),
        cert = encoded(&client.cert_pem),
        key = encoded(&client.key_pem),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_yaml_with_the_parts_in_their_places() {
        let client = CertKey { cert_pem: "C".into(), key_pem: "K".into() };
        let text = kubeconfig("https://[::1]:6443", "A", &client);
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(value["clusters"][0]["cluster"]["server"], "https://[::1]:6443");
        assert_eq!(value["users"][0]["user"]["client-key-data"], STANDARD.encode("K"));
        assert_eq!(value["contexts"][0]["context"]["user"], "portolan");
    }
}
