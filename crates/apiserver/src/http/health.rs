//! `/healthz`, `/livez` and `/readyz`.

use http::Response;

use super::Server;
use super::query::Query;
use super::reply::{self, Body};

/// Answers a health path; `None` when it is none.
pub(crate) fn respond(server: &Server, path: &str, query: &Query) -> Option<Response<Body>> {
    let mut parts = path.trim_matches('/').split('/');
    let endpoint = parts.next().filter(|name| ENDPOINTS.contains(name))?;
    let checks = checks(endpoint, *server.draining.borrow());
    if let Some(name) = parts.next() {
        let (_, good) = checks.iter().find(|(known, _)| *known == name)?;
        return Some(match good {
            true => reply::text(200, "ok"),
            false => reply::text(500, format!("{name} failed\n")),
        });
    }
    let excluded = |name: &str| query.all("exclude").any(|other| other == name);
    let good = checks.iter().all(|(name, good)| *good || excluded(name));
    if good && query.get("verbose").is_none() {
        return Some(reply::text(200, "ok"));
    }
    let mut page = String::new();
    for (name, good) in &checks {
        page.push_str(&match (excluded(name), good) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, true) => format!("[+]{name} ok\n"),
            (false, false) => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    let (code, word) = if good { (200, "passed") } else { (500, "failed") };
    page.push_str(&format!("{endpoint} check {word}\n"));
    Some(reply::text(code, page))
}

/// The server listens only when its objects are loaded, so what can still change is its end.
fn checks(endpoint: &str, draining: bool) -> Vec<(&'static str, bool)> {
    let mut checks = vec![("ping", true)];
    if endpoint == "readyz" {
        checks.push(("shutdown", !draining));
    }
    checks
}

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readiness_ends_with_the_server() {
        assert!(checks("livez", true).iter().all(|(_, good)| *good));
        assert!(checks("readyz", true).contains(&("shutdown", false)));
    }
}
