//! Parameters that do not learn.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use training::PathPredicate;

/// Takes the gradient from the chosen parameters, so that neither the optimiser nor the clipping sees
/// them, and the backward pass ends above them.
pub(crate) fn freeze<M: Module>(module: M, frozen: &PathPredicate) -> M {
    module.map(&mut Freeze {
        frozen,
        path: Vec::new(),
    })
}

/// All of the encoder of a [`SentenceModel`](super::SentenceModel) with `layers` layers but its `top`
/// highest ones and what comes after them: embedding tables, their layer norm, the lower layers.
pub(crate) fn below_top(layers: usize, top: usize) -> PathPredicate {
    let lower = (0..layers.saturating_sub(top)).map(|layer| format!("backbone.layers.{layer}"));
    let below: Vec<PathPredicate> = lower
        .chain(["backbone.embeddings".to_owned()])
        .map(|path| PathPredicate::below(&path))
        .collect();
    PathPredicate::new(format!("all but the top {top} layers"), move |path| {
        below.iter().any(|part| part.matches(path))
    })
}

struct Freeze<'p> {
    frozen: &'p PathPredicate,
    path: Vec<String>,
}

impl ModuleMapper for Freeze<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.frozen.matches(&self.path.join(".")) {
            return param.set_require_grad(false);
        }
        param
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_layers_and_what_follows_learn() {
        let frozen = below_top(3, 2);
        for (path, expected) in [
            ("backbone.embeddings.word_embeddings.weight", true),
            ("backbone.embeddings.layer_norm.gamma", true),
            ("backbone.layers.0.attention.query.weight", true),
            ("backbone.layers.1.attention.query.weight", false),
            ("backbone.layers.10.attention.query.weight", false),
            ("backbone.pooler.weight", false),
            ("head.mlp.weight", false),
        ] {
            assert_eq!(frozen.matches(path), expected, "{path}");
        }
        // All layers learn; the embeddings never do.
        let embeddings = below_top(3, 5);
        assert!(embeddings.matches("backbone.embeddings.layer_norm.beta"));
        assert!(!embeddings.matches("backbone.layers.0.output.weight"));
    }
}
