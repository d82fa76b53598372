//! Taints and tolerations.

use model::{Node, Pod};

/// The first taint that keeps a pod away, as the scheduler shows it: `{key: value}`.
pub(super) fn untolerated(node: &Node, pod: &Pod) -> Option<String> {
    let mut taints = node.taints.iter().map(|text| Taint::parse(text));
    let taint = taints.find(|taint| taint.forbids() && !taint.is_tolerated_by(pod))?;
    Some(format!("{{{}: {}}}", taint.key, taint.value))
}

/// Whether a pod may run on a node that is cordoned.
pub(super) fn tolerates_unschedulable(pod: &Pod) -> bool {
    let taint = Taint { key: "node.kubernetes.io/unschedulable", value: "", effect: "NoSchedule" };
    taint.is_tolerated_by(pod)
}

/// How many untolerated taints ask to stay away.
pub(super) fn avoided(node: &Node, pod: &Pod) -> usize {
    let taints = node.taints.iter().map(|text| Taint::parse(text));
    taints.filter(|taint| taint.effect == "PreferNoSchedule" && !taint.is_tolerated_by(pod)).count()
}

/// A taint, `key=value:effect`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Taint<'a> {
    key: &'a str,
    value: &'a str,
    effect: &'a str,
}

impl<'a> Taint<'a> {
    fn parse(text: &'a str) -> Self {
        let (rest, effect) = text.rsplit_once(':').unwrap_or((text, ""));
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        Self { key, value, effect }
    }

    fn forbids(&self) -> bool {
        matches!(self.effect, "NoSchedule" | "NoExecute")
    }

    fn is_tolerated_by(&self, pod: &Pod) -> bool {
        pod.tolerations.iter().any(|text| self.is_tolerated(text))
    }

    /// Whether a toleration, `key=value:effect` or `key:effect`, covers this taint.
    fn is_tolerated(&self, toleration: &str) -> bool {
        let (rest, effect) = toleration.rsplit_once(':').unwrap_or((toleration, ""));
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (rest, None),
        };
        (effect.is_empty() || effect == self.effect)
            && (key.is_empty() || key == self.key && value.is_none_or(|value| value == self.value))
    }
}
