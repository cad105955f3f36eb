//! The difference of two snapshots, tensor by tensor.
//!
//! For a tensor a of the reference and its counterpart b, with maxima over all elements,
//!
//! ```text
//! absolute = max |a - b|
//! scale    = max |a|
//! relative = absolute / scale
//! ```
//!
//! Two gradients are zero by mathematics, whatever the input: that of an attention key's bias, because
//! a softmax does not see what is added to a whole row, and that of the bias of the head that gives
//! means, because the divergence depends on differences of means alone. What a device returns there is
//! the rounding error of a sum that cancels. Their scale is `max |gradient of the weight of the same
//! layer|`, which is a sum of terms of the same size that does not cancel.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::step::{Group, Item};

/// Ends of the names of parameters whose gradients cancel to zero.
const CANCELLING: [&str; 2] = ["attention.key.bias", "heads.fc_mu.bias"];

/// Largest accepted relative difference of each group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Hidden states, pooled vectors, losses. Default 1e-4.
    pub forward: f64,
    /// Gradients. Default 1e-3.
    pub gradient: f64,
    /// Parameters after the optimiser's step. Default 1e-3.
    pub update: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            forward: 1e-4,
            gradient: 1e-3,
            update: 1e-3,
        }
    }
}

impl Tolerance {
    /// The tolerance of a group.
    pub fn of(&self, group: Group) -> f64 {
        match group {
            Group::Forward | Group::Loss => self.forward,
            Group::Gradient => self.gradient,
            Group::Update => self.update,
        }
    }
}

/// How far one tensor is from the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What it belongs to.
    pub group: Group,
    /// Name of the tensor; parameters by path.
    pub name: String,
    /// `absolute / scale`; infinite if a value is not finite on one side only, or if sizes differ.
    #[serde(serialize_with = "finite_or_null")]
    pub relative: f64,
    /// Largest difference of two elements.
    #[serde(serialize_with = "finite_or_null")]
    pub absolute: f64,
    /// What the difference is divided by.
    #[serde(serialize_with = "finite_or_null")]
    pub scale: f64,
    /// Whether `relative` is within the tolerance of the group.
    pub pass: bool,
    /// Why nothing could be compared; empty otherwise.
    pub detail: String,
}

/// JSON has no infinity: null stands for it.
fn finite_or_null<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.pass { "ok" } else { "OVER" };
        let line = format!(
            "{verdict:<4} {:<8} {:>10.3e} {:>10.3e} {:>10.3e}  {} {}",
            self.group, self.relative, self.absolute, self.scale, self.name, self.detail
        );
        f.write_str(line.trim_end())
    }
}

/// Every tensor of either snapshot, worst first; equal differences by group and name.
pub fn compare(reference: &[Item], other: &[Item], tolerance: &Tolerance) -> Vec<Difference> {
    let index = |items: &'_ [Item]| -> BTreeMap<(Group, String), usize> {
        let keys = items.iter().map(|item| (item.group, item.name.clone()));
        keys.zip(0..).collect()
    };
    let (left, right) = (index(reference), index(other));
    let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let mut all: Vec<Difference> = keys
        .into_iter()
        .map(|key| {
            let (group, name) = key;
            let weight = cancels(*group, name).and_then(|weight| left.get(&(*group, weight)));
            let beside = weight.and_then(|&at| reference.get(at));
            let beside = beside.map_or(0.0, |item| magnitude(&item.values));
            let (a, b) = (left.get(key), right.get(key));
            let values = |at: Option<&usize>, items: &'_ [Item]| -> Option<Vec<f32>> {
                at.and_then(|&at| items.get(at))
                    .map(|item| item.values.clone())
            };
            let outcome = match (values(a, reference), values(b, other)) {
                (Some(a), Some(b)) => difference(&a, &b, beside),
                (Some(_), None) => Err("missing".to_owned()),
                (None, _) => Err("not in the reference".to_owned()),
            };
            let (absolute, scale, detail) = match outcome {
                Ok((absolute, scale)) => (absolute, scale, String::new()),
                Err(detail) => (f64::INFINITY, 1.0, detail),
            };
            // Two tensors of zeros are equal whatever the scale.
            let relative = if absolute == 0.0 {
                0.0
            } else {
                absolute / scale
            };
            Difference {
                group: *group,
                name: name.clone(),
                relative,
                absolute,
                scale,
                pass: relative <= tolerance.of(*group),
                detail,
            }
        })
        .collect();
    all.sort_by(|a, b| b.relative.total_cmp(&a.relative));
    all
}

/// The weight of the same layer, for a gradient that is zero by mathematics.
pub(crate) fn cancels(group: Group, name: &str) -> Option<String> {
    let zero = CANCELLING.iter().any(|end| name.ends_with(end));
    let layer = name.strip_suffix("bias")?;
    (group == Group::Gradient && zero).then(|| format!("{layer}weight"))
}

/// Largest difference and scale, or why there is none.
fn difference(a: &[f32], b: &[f32], beside: f64) -> Result<(f64, f64), String> {
    if a.len() != b.len() {
        return Err(format!("{} values, {} in the reference", b.len(), a.len()));
    }
    let mut absolute = 0.0_f64;
    for (at, (&x, &y)) in a.iter().zip(b).enumerate() {
        if !(x.is_finite() && y.is_finite()) {
            return Err(format!("element {at}: {y}, {x} in the reference"));
        }
        absolute = absolute.max((f64::from(x) - f64::from(y)).abs());
    }
    Ok((absolute, magnitude(a).max(beside)))
}

/// Largest finite magnitude.
fn magnitude(values: &[f32]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    finite.fold(0.0, |largest, value| largest.max(f64::from(value.abs())))
}

/// The worst of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The group.
    pub group: Group,
    /// Tensors in it.
    pub tensors: usize,
    /// Tensors beyond the tolerance.
    pub over: usize,
    /// Largest relative difference.
    #[serde(serialize_with = "finite_or_null")]
    pub worst: f64,
    /// Median relative difference.
    #[serde(serialize_with = "finite_or_null")]
    pub median: f64,
    /// Tensor with the largest.
    pub name: String,
}

/// One summary for each group that occurs.
pub fn summaries(differences: &[Difference]) -> Vec<Summary> {
    Group::ALL
        .into_iter()
        .filter_map(|group| {
            // Worst first, as `compare` sorts them.
            let of: Vec<_> = differences.iter().filter(|d| d.group == group).collect();
            let worst = of.first()?;
            Some(Summary {
                group,
                tensors: of.len(),
                over: of.iter().filter(|d| !d.pass).count(),
                worst: worst.relative,
                median: of.get(of.len() / 2)?.relative,
                name: worst.name.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn item(group: Group, name: &str, values: &[f32]) -> Item {
        Item {
            group,
            name: name.to_owned(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn worst_first_with_the_scale_of_the_tensor() {
        let reference = [
            item(Group::Forward, "a", &[1.0, -4.0]),
            item(Group::Forward, "b", &[0.5]),
            item(Group::Gradient, "a", &[0.0]),
        ];
        let other = [
            item(Group::Forward, "b", &[0.75]),
            item(Group::Gradient, "a", &[0.0]),
            item(Group::Forward, "a", &[1.0, -3.0]),
        ];
        let found = compare(&reference, &other, &Tolerance::default());
        let seen: Vec<_> = found
            .iter()
            .map(|d| (d.name.as_str(), d.relative, d.pass))
            .collect();
        assert_eq!(
            seen,
            [("b", 0.5, false), ("a", 0.25, false), ("a", 0.0, true)]
        );
        assert_eq!((found[1].absolute, found[1].scale), (1.0, 4.0));
        let groups = summaries(&found);
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].tensors, groups[0].over, groups[0].name.as_str()),
            (2, 2, "b")
        );
        assert_eq!((groups[1].worst, groups[1].over), (0.0, 0));
    }

    #[test]
    fn gradients_that_cancel_are_measured_against_their_layer() {
        let reference = [
            item(Group::Gradient, "a.attention.key.weight", &[2.0]),
            item(Group::Gradient, "a.attention.key.bias", &[1e-9]),
            item(Group::Gradient, "a.attention.query.bias", &[1e-9]),
            item(Group::Update, "a.attention.key.bias", &[1e-9]),
        ];
        let mut other = reference.to_vec();
        other
            .iter_mut()
            .skip(1)
            .for_each(|item| item.values[0] = -1e-9);
        let found = compare(&reference, &other, &Tolerance::default());
        let of = |group, name: &str| {
            let all = found
                .iter()
                .find(|d| d.group == group && d.name.contains(name));
            all.unwrap()
        };
        let key = of(Group::Gradient, "key.bias");
        assert!(key.pass && key.scale == 2.0, "{key}");
        // No other tensor is let off.
        assert!(!of(Group::Gradient, "query.bias").pass);
        assert!(!of(Group::Update, "key.bias").pass);
    }

    #[test]
    fn what_cannot_be_compared_fails_and_says_why() {
        let reference = [
            item(Group::Loss, "lost", &[1.0]),
            item(Group::Loss, "long", &[1.0, 1.0]),
            item(Group::Loss, "nan", &[1.0]),
        ];
        let other = [
            item(Group::Loss, "long", &[1.0]),
            item(Group::Loss, "nan", &[f32::NAN]),
            item(Group::Loss, "new", &[1.0]),
        ];
        let found = compare(&reference, &other, &Tolerance::default());
        assert_eq!(found.len(), 4);
        for (name, part) in [
            ("lost", "missing"),
            ("long", "1 values, 2"),
            ("nan", "element 0: NaN"),
            ("new", "not in the reference"),
        ] {
            let line = found.iter().find(|d| d.name == name).unwrap();
            assert!(!line.pass && line.relative.is_infinite());
            assert!(line.detail.contains(part), "{line}");
            let json = serde_json::to_value(line).unwrap();
            assert!(json["relative"].is_null());
        }
    }
}
