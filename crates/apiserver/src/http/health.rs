//! `/healthz`, `/livez` and `/readyz`.

use std::collections::BTreeSet;

use http::Response;
use wire::status::quote;

use super::query::Query;
use super::reply::{self, Body};
use super::server::Server;

/// Answers a health path; `None` when it is none.
pub(crate) fn respond(server: &Server, path: &str, query: &Query) -> Option<Response<Body>> {
    let (endpoint, check) = path.strip_prefix('/')?.split_once('/').unwrap_or((path.get(1..)?, ""));
    if !ENDPOINTS.contains(&endpoint) {
        return None;
    }
    let checks = checks(endpoint, *server.draining.borrow());
    if !check.is_empty() {
        let (_, good) = checks.iter().find(|(known, _)| *known == check)?;
        return Some(match good {
            true => reply::text(200, "ok"),
            false => reply::text(500, format!("internal server error: {ENDING}\n")),
        });
    }
    let (good, page) = page(endpoint, &checks, query.all("exclude"));
    Some(match good {
        true if query.get("verbose").is_none() => reply::text(200, "ok"),
        true => reply::text(200, page),
        false => reply::text(500, page),
    })
}

/// Whether all checks that are not excluded pass, and a line for each.
fn page<'a>(
    endpoint: &str,
    checks: &[(&str, bool)],
    excluded: impl Iterator<Item = &'a str>,
) -> (bool, String) {
    let excluded: BTreeSet<&str> = excluded.collect();
    let mut page = String::new();
    for (name, good) in checks {
        page.push_str(&match (excluded.contains(name), good) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, true) => format!("[+]{name} ok\n"),
            (false, false) => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    let is_known = |name: &&str| checks.iter().any(|(known, _)| known == name);
    let unknown: Vec<String> =
        excluded.iter().filter(|name| !is_known(name)).map(|name| quote(name)).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        page.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {unknown}\n"
        ));
    }
    let good = checks.iter().all(|(name, good)| *good || excluded.contains(name));
    page.push_str(&format!("{endpoint} check {}\n", if good { "passed" } else { "failed" }));
    (good, page)
}

/// Under kube-apiserver's names. The server listens only when its store is open and its objects
/// are loaded, so what can still change is its end.
fn checks(endpoint: &str, draining: bool) -> Vec<(&'static str, bool)> {
    let mut checks = vec![("ping", true), ("etcd", true)];
    if endpoint == "readyz" {
        checks.extend([("etcd-readiness", true), ("informer-sync", true)]);
        checks.push(("shutdown", !draining));
    }
    checks
}

const ENDING: &str = "process is shutting down";
const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_told_one_by_one_and_left_out_by_name() {
        let checks = [("ping", true), ("shutdown", false)];
        let (good, told) = page("readyz", &checks, ["nope", "shutdown"].into_iter());
        assert!(good);
        assert_eq!(
            told,
            "[+]ping ok\n[+]shutdown excluded: ok\nwarn: some health checks cannot be excluded: no \
             matches for \"nope\"\nreadyz check passed\n"
        );
        let (good, told) = page("readyz", &checks, [].into_iter());
        assert!(!good && told.contains("[-]shutdown failed: reason withheld\n"), "{told}");
    }

    #[test]
    fn only_readiness_ends_with_the_server() {
        assert!(checks("livez", true).iter().all(|(_, good)| *good));
        assert!(checks("readyz", true).contains(&("shutdown", false)));
    }
}
