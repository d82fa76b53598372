//! The agent: what it makes of the kernel.

use std::time::Duration;

use portolan_daemon::agent::AgentConfig;
use serde_json::json;

use crate::node::{
    SERVICES, SLICES, agent, agent_with, block_on, http, inside, maps, needs_own_server, run,
    service, slice, until, until_http,
};
use crate::support::Api;

#[test]
fn endpoints_reach_the_kernel_and_leave_it() {
    // D44.
    if !inside("agent::endpoints_reach_the_kernel_and_leave_it") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2", "10.244.1.2"])).await;
        until("both endpoints are there", |held| {
            held.contains(&address) && held.contains("10.244.0.2") && held.contains("10.244.1.2")
        })
        .await;
        let one = json!({"endpoints": [{"addresses": ["10.244.1.2"]}]});
        api.merge(&format!("{SLICES}/web-1"), one).await;
        until("one endpoint is gone", |held| {
            !held.contains("10.244.0.2") && held.contains("10.244.1.2")
        })
        .await;
        let health = http(10256, "/healthz").await;
        assert!(health.starts_with("HTTP/1.1 200") && health.contains("lastUpdated"), "{health}");
        assert!(http(10249, "/proxyMode").await.ends_with("nftables"));
        let metrics = http(10249, "/metrics").await;
        assert!(metrics.contains("portolan_watch_to_kernel_duration_seconds_count"), "{metrics}");
        let address = api.address;
        let requests =
            format!(r#"rest_client_requests_total{{code="200",method="GET",host="{address}"}} "#);
        assert!(metrics.contains(&requests), "{requests} is missing in\n{metrics}");
    });
}

#[test]
fn tables_that_somebody_deletes_come_back() {
    // D50.
    if !inside("agent::tables_that_somebody_deletes_come_back") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until("the Service is there", |held| held.contains(&address)).await;
        run("nft", &["flush", "ruleset"]);
        until("the Service is back", |held| held.contains(&address) && held.contains("10.244.0.2"))
            .await;
        let told = |page: &str| page.contains("table ip portolan") && page.contains("nft (process");
        until_http(10249, "/services", |page| page.contains("lastRepair") && told(page)).await;
        let metrics = http(10249, "/metrics").await;
        assert!(metrics.contains("portolan_repairs_total{part=\"table\"} 2"), "{metrics}");
    });
}

#[test]
fn a_restart_while_the_api_server_is_away_leaves_the_tables_alone() {
    // D6, D48.
    let test = "agent::a_restart_while_the_api_server_is_away_leaves_the_tables_alone";
    if needs_own_server(test) || !inside(test) {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let first = agent(&api);
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until("the Service is there", |held| held.contains("10.244.0.2")).await;
        drop(first);
        let (kubeconfig, before) = (api.kubeconfig.clone(), maps());
        let (folder, port) = api.stop().await;
        let mut config = AgentConfig::new("node1".into());
        config.kubeconfig = Some(kubeconfig);
        let _second = agent_with(config);
        // Long enough for several attempts to reach the server.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(maps(), before, "traffic goes on");
        let api = Api::start_in(folder, port).await;
        api.delete(&format!("{SERVICES}/web")).await;
        until("the Service is gone", |held| !held.contains(&address)).await;
    });
}
