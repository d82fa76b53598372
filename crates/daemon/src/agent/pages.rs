//! The agent's HTTP pages, on kube-proxy's ports and paths (semantics 4.10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::{StatusCode, Uri};
use model::NodeView;
use nft::{Meter, Retired};
use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::AgentConfig;
use super::counters::CountersReport;
use super::health::Health;
use super::metrics::Metrics;
use super::report::{AgentReport, Filter};
use super::service_metrics;
use crate::http::{Answer, Server};

/// How often an address that is taken is tried again; kube-proxy's.
const BIND_AGAIN: Duration = Duration::from_secs(5);
/// What to do about an address that is taken.
const ADVICE: &str = "does a kube-proxy or another agent run here? Else choose another";
/// Questions that may wait for the loop.
const QUESTIONS: usize = 16;

/// Something that only the loop can answer.
#[derive(Debug)]
pub(crate) enum Question {
    /// What this node does for Services.
    Services { filter: Filter, reply: oneshot::Sender<AgentReport> },
    /// The Services, by which to read counters; `None` until something is planned.
    View(oneshot::Sender<Option<NodeView>>),
    /// To delete counters that nobody needs any more; the answer is whether that succeeded.
    Retire { retired: Retired, reply: oneshot::Sender<bool> },
}

/// The servers. Dropping it closes them.
pub(crate) struct Pages {
    _servers: JoinSet<()>,
}

impl Pages {
    /// Serves on both ports, on the current runtime. What only the loop knows it is asked for.
    ///
    /// # Errors
    /// When an address is taken and the configuration says that this is fatal.
    pub(crate) fn serve(
        config: &AgentConfig,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Question>)> {
        let (ask, questions) = mpsc::channel(QUESTIONS);
        let mut servers = JoinSet::new();
        if let Some(bind) = config.health_bind {
            let page = probes(Arc::clone(health), Arc::clone(metrics));
            let start = move || Server::start(bind, page.clone());
            keep(&mut servers, bind, "healthz-bind-address", config.bind_hard_fail, start)?;
        }
        if let Some(bind) = config.metrics_bind {
            let page = Arc::new(Page {
                health: Arc::clone(health),
                metrics: Arc::clone(metrics),
                configz: json!({ "kubeproxy.config.k8s.io": config.configuration }).to_string(),
                flagz: flagz(config),
                started: jiff::Timestamp::now(),
                meter: match config.counters {
                    true => Some(Arc::new(Mutex::new(Meter::open(&config.dataplane())?))),
                    false => None,
                },
                ask,
            });
            let start = move || {
                let page = Arc::clone(&page);
                Server::start_async(bind, move |uri| Arc::clone(&page).answer(uri))
            };
            keep(&mut servers, bind, "metrics-bind-address", config.bind_hard_fail, start)?;
        }
        Ok((Self { _servers: servers }, questions))
    }
}

/// Starts a server, again and again unless failing is fatal.
fn keep(
    servers: &mut JoinSet<()>,
    bind: SocketAddr,
    flag: &'static str,
    hard_fail: bool,
    start: impl Fn() -> std::io::Result<Server> + Send + 'static,
) -> anyhow::Result<()> {
    let first = start();
    let mut server = match first {
        Ok(server) => Some(server),
        Err(error) if hard_fail => {
            return Err(error).with_context(|| format!("serve on {bind}: {ADVICE} --{flag}"));
        }
        Err(error) => {
            tracing::error!(%bind, %error, again_in = ?BIND_AGAIN, "cannot serve: {ADVICE} --{flag}");
            None
        }
    };
    servers.spawn(async move {
        while server.is_none() {
            tokio::time::sleep(BIND_AGAIN).await;
            server = start().ok();
        }
        std::future::pending::<()>().await;
    });
    Ok(())
}

/// Reads counters beside the loop, which has more urgent things to do; `None` if that fails. What is
/// deleted must be told to the meter before it reads again.
async fn read_counters(
    meter: Arc<Mutex<Meter>>,
    ask: mpsc::Sender<Question>,
) -> Option<CountersReport> {
    let mut meter = meter.lock_owned().await;
    let (reply, answer) = oneshot::channel();
    ask.send(Question::View(reply)).await.ok()?;
    let view = answer.await.ok()??;
    let reading = tokio::task::spawn_blocking(move || {
        let retired = meter.read(&view);
        let report = CountersReport::of(meter.counters());
        (meter, report, retired)
    });
    let (mut meter, report, retired) = reading.await.ok()?;
    let retired = match retired {
        Ok(retired) => retired,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "could not read the counters");
            return None;
        }
    };
    if !retired.is_empty() {
        let (reply, answer) = oneshot::channel();
        ask.send(Question::Retire { retired: retired.clone(), reply }).await.ok()?;
        if answer.await.unwrap_or(false) {
            meter.retired(retired);
        }
    }
    Some(report)
}

/// `/healthz` and `/livez`, for load balancers and the kubelet.
fn probes(
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> impl Fn(&str) -> Answer + Clone + Send + Sync + 'static {
    move |path| match path {
        "/healthz" => {
            let answer = health.healthz();
            metrics.healthz(answer.status);
            answer
        }
        "/livez" => {
            let answer = health.livez();
            metrics.livez(answer.status);
            answer
        }
        _ => Answer::not_found(),
    }
}

/// What the pages for people and Prometheus are made of.
struct Page {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    configz: String,
    flagz: String,
    started: jiff::Timestamp,
    /// What reads the kernel's counters, if there are any.
    meter: Option<Arc<Mutex<Meter>>>,
    ask: mpsc::Sender<Question>,
}

impl Page {
    async fn answer(self: Arc<Self>, uri: Uri) -> Answer {
        match uri.path() {
            "/metrics" => Answer::text(StatusCode::OK, self.metrics().await),
            "/counters" => self.counters_page().await,
            "/proxyMode" => Answer::text(StatusCode::OK, "nftables"),
            "/healthz" => Answer::text(StatusCode::OK, "ok"),
            "/livez" => self.health.livez(),
            "/configz" => Answer::json_text(self.configz.clone()),
            "/flagz" => Answer::text(StatusCode::OK, self.flagz.clone()),
            "/statusz" => Answer::text(StatusCode::OK, self.statusz()),
            "/services" => self.services(uri.query().unwrap_or_default()).await,
            path if path.starts_with("/debug/pprof") => Answer::text(
                StatusCode::NOT_FOUND,
                "no profiles: pprof is for Go programs; use perf on this process\n",
            ),
            _ => Answer::not_found(),
        }
    }

    /// The metrics, with those of Services where they are counted.
    async fn metrics(&self) -> String {
        let text = self.metrics.encode();
        match self.counters().await {
            Some(counters) => {
                let end = "# EOF\n";
                format!("{}{}{end}", text.trim_end_matches(end), service_metrics::encode(&counters))
            }
            None => text,
        }
    }

    /// To its end even if whoever asked goes: see [`read_counters`].
    async fn counters(&self) -> Option<CountersReport> {
        let reading = read_counters(Arc::clone(self.meter.as_ref()?), self.ask.clone());
        tokio::spawn(reading).await.ok()?
    }

    async fn counters_page(&self) -> Answer {
        let none = "nothing is counted: start the agent with --counters\n";
        match self.counters().await {
            Some(report) => Answer::json_text(serde_json::to_string(&report).unwrap_or_default()),
            None if self.meter.is_none() => Answer::text(StatusCode::NOT_FOUND, none),
            None => Answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the counters could not be read: the agent's log tells why\n",
            ),
        }
    }

    async fn services(&self, query: &str) -> Answer {
        let (reply, answer) = oneshot::channel();
        let question = Question::Services { filter: Filter::from_query(query), reply };
        let asked = self.ask.send(question).await.is_ok();
        match answer.await {
            Ok(report) if asked => {
                let report = serde_json::to_string(&report).unwrap_or_default();
                Answer::json_text(report)
            }
            _ => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending\n"),
        }
    }

    /// As kube-proxy's: name, start, uptime and version.
    fn statusz(&self) -> String {
        let up = jiff::Timestamp::now().as_second() - self.started.as_second();
        format!(
            "portolan agent statusz\nWarning: This endpoint is not meant to be machine parseable\n\n\
             Started: {}\nUp: {} hr {:02} min {:02} sec\nVersion: {}\n\n\
             Paths: /configz /counters /flagz /healthz /livez /metrics /proxyMode /services\n",
            self.started,
            up / 3600,
            up / 60 % 60,
            up % 60,
            env!("CARGO_PKG_VERSION"),
        )
    }
}

fn flagz(config: &AgentConfig) -> String {
    let mut text = "portolan agent flags\n\
                    Warning: This endpoint is not meant to be machine parseable\n\n"
        .to_owned();
    for (flag, value) in &config.flags {
        text += &format!("{flag}={value}\n");
    }
    text
}
