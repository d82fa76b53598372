//! Every decision of Portolan as pure functions over the model.
//!
//! What it is: the verbs. Given a [`model::Cluster`] (and the time, where time
//! matters) each function returns what to do and why; the same input gives the
//! same answer, byte for byte.
//!
//! What it is not: it does nothing. It reads no clock, draws no random number,
//! writes no log and knows no JSON.
//!
//! ```text
//!             ┌─ service, node_view ──────────────▶ NodeView  ─▶ nft
//!             ├─ adverts ─────────────────────────▶ Adverts   ─▶ announce
//!  Cluster ──▶├─ slices, endpoints, mirroring ─┐
//!             ├─ deployment, replica_set       ├──▶ Reconciled (Write, …) ─▶ cluster
//!             ├─ schedule, load_balancer       │
//!             └─ namespace, garbage, node_health
//!  ranges ───▶  allocate ─────────────────────────▶ address, port ─▶ apiserver
//! ```

pub mod allocate;
