//! Which endpoint has which number.

use std::sync::Arc;

use model::{Action, Backend, Frontend, ServiceView};

use super::service::Spot;

/// The new Service with its endpoints in an order in which as many as possible keep the number
/// that they have in `old`: removing one of a thousand moves one, not all that follow it.
pub(crate) fn place(old: &ServiceView, new: &Arc<ServiceView>) -> Arc<ServiceView> {
    let mut placed = Arc::clone(new);
    for index in 0..new.frontends.len() {
        let frontend = &new.frontends[index];
        let spot = Spot::of(frontend);
        let Some(before) = old.frontends.iter().find(|old| Spot::of(old) == spot) else {
            continue;
        };
        let moved = moved(before, frontend);
        if moved != *frontend {
            Arc::make_mut(&mut placed).frontends[index] = moved;
        }
    }
    placed
}

fn moved(old: &Frontend, new: &Frontend) -> Frontend {
    Frontend {
        internal: action(&old.internal, &new.internal),
        external: action(&old.external, &new.external),
        ..new.clone()
    }
}

fn action(old: &Action, new: &Action) -> Action {
    match (old, new) {
        (Action::Balance(old), Action::Balance(new)) => Action::Balance(order(old, new)),
        _ => new.clone(),
    }
}

/// `new`, with those that are in `old` at their old place if the list is long enough for it, and
/// the others in the gaps.
fn order(old: &[Backend], new: &Arc<[Backend]>) -> Arc<[Backend]> {
    let kept = |backend: &Backend| new.binary_search(backend).is_ok();
    let mut places: Vec<Option<Backend>> =
        old.iter().take(new.len()).map(|backend| kept(backend).then_some(*backend)).collect();
    places.resize(new.len(), None);
    let mut seated: Vec<Backend> = places.iter().flatten().copied().collect();
    seated.sort_unstable();
    let mut waiting = new.iter().filter(|backend| seated.binary_search(backend).is_err());
    places.into_iter().filter_map(|place| place.or_else(|| waiting.next().copied())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backend(number: u8) -> Backend {
        Backend { address: ([10, 0, 0, number], 80).into(), local: false }
    }

    proptest! {
        #[test]
        fn same_endpoints_and_few_moves(
            old in prop::collection::btree_set(0_u8..40, 1..30),
            new in prop::collection::btree_set(0_u8..40, 1..30),
        ) {
            let old: Vec<_> = old.into_iter().map(backend).collect();
            let new: Arc<[_]> = new.into_iter().map(backend).collect();
            let placed = order(&old, &new);
            let mut sorted = placed.to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted[..], &new[..]);
            let gone = old.iter().filter(|backend| !new.contains(backend)).count();
            let come = new.iter().filter(|backend| !old.contains(backend)).count();
            let changed = (0..old.len().min(new.len())).filter(|at| old[*at] != placed[*at]).count();
            prop_assert!(changed <= gone.max(come));
        }
    }
}
