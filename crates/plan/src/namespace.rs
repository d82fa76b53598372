//! What goes when a Namespace goes.

use model::NamespaceName;

use crate::{Inventory, Reconciled};

/// The next step of removing a terminating Namespace: delete what is in it, and once nothing is
/// left, finalize it. Does nothing for a Namespace that is not being deleted.
pub fn namespace(inventory: &Inventory, name: &NamespaceName) -> Reconciled {
    let _ = (inventory, name);
    Reconciled::default()
}
