//! The API server by itself, without controllers and nodes: `apiserver STATE PORT [TOKEN_FILE]`.
//!
//! Prints the kubeconfig of the administrator and serves until Ctrl-C.

use std::path::PathBuf;

use portolan_apiserver::config::ApiserverConfig;
use portolan_apiserver::run::run;
use portolan_apiserver::tls::{Pki, kubeconfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(state), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err("usage: apiserver STATE PORT [TOKEN_FILE]".into());
    };
    let mut config = ApiserverConfig::new(state);
    config.secure_port = port.parse()?;
    config.token_auth_file = arguments.next().map(PathBuf::from);
    let pki = Pki::open(config.state_dir.join("pki"))?;
    let admin = pki.admin()?;
    let path = config.state_dir.join("kubeconfig");
    let stopped = async {
        // Without a signal handler the process just ends, which is as good.
        let _ = tokio::signal::ctrl_c().await;
    };
    run(config, stopped, |addresses| {
        for address in addresses {
            let text = kubeconfig(&format!("https://{address}"), pki.ca_pem(), &admin);
            match std::fs::write(&path, text) {
                Ok(()) => eprintln!("export KUBECONFIG={}", path.display()),
                Err(error) => eprintln!("cannot write {}: {error}", path.display()),
            }
        }
    })
    .await?;
    Ok(())
}
