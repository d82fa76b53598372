//! Requests that are answered at a time (`--max-requests-inflight`,
//! `--max-mutating-requests-inflight`; L2).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::{User, Verb};
use crate::config::Limits;

/// The two pools, as kube-apiserver has them.
pub(crate) struct Inflight {
    reading: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
}

/// Held by a request that is being answered; empty for one that is not counted.
pub(crate) type Permit = Option<OwnedSemaphorePermit>;

/// All permits of a pool are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooMany;

impl Inflight {
    /// Nothing is being answered.
    pub(crate) fn new(limits: &Limits) -> Self {
        let pool = |limit: usize| match limit {
            0 => Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            limit => Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
        };
        Self { reading: pool(limits.requests_inflight), mutating: pool(limits.mutating_inflight) }
    }

    /// Takes a permit. Administrators are never refused, as in the real server
    /// (`WithMaxInFlightLimit`): they wait, so that their bodies stay within bounds, too.
    pub(crate) async fn admit(&self, verb: Verb, user: &User) -> Result<Permit, TooMany> {
        let pool = match verb {
            Verb::Watch => return Ok(None),
            Verb::Get | Verb::List => &self.reading,
            _ => &self.mutating,
        };
        if let Ok(permit) = pool.clone().try_acquire_owned() {
            return Ok(Some(permit));
        }
        if !user.groups.iter().any(|group| group == PRIVILEGED) {
            return Err(TooMany);
        }
        // The pools are never closed.
        pool.clone().acquire_owned().await.map(Some).map_err(|_closed| TooMany)
    }
}

const PRIVILEGED: &str = "system:masters";

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn inflight() -> Inflight {
        Inflight::new(&Limits { requests_inflight: 1, mutating_inflight: 1, ..Limits::default() })
    }

    #[test]
    fn readers_writers_and_watches_do_not_keep_each_other_out() {
        let (inflight, user) = (inflight(), User::default());
        let admit = |verb| inflight.admit(verb, &user).now_or_never().unwrap();
        let _reading = admit(Verb::List).unwrap();
        let writing = admit(Verb::Delete).unwrap();
        assert_eq!(admit(Verb::Get).unwrap_err(), TooMany);
        assert_eq!(admit(Verb::Create).unwrap_err(), TooMany);
        assert!(admit(Verb::Watch).unwrap().is_none());
        drop(writing);
        assert!(admit(Verb::Create).is_ok());
    }

    #[test]
    fn administrators_wait() {
        let inflight = inflight();
        let admin = User { groups: vec![PRIVILEGED.to_owned()], ..User::default() };
        let first = inflight.admit(Verb::Get, &admin).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(inflight.admit(Verb::Get, &admin));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().unwrap().is_ok());
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = Limits { requests_inflight: 0, ..Limits::default() };
        let (inflight, user) = (Inflight::new(&limits), User::default());
        let many: Vec<_> = (0..5000)
            .map(|_| inflight.admit(Verb::Get, &user).now_or_never().unwrap().unwrap())
            .collect();
        assert_eq!(many.len(), 5000);
    }
}
