//! One case while it is being run: its inputs as tensors and slices, the values computed so far.

use std::error::Error as StdError;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use encoder::SentenceEncoder;
use ndarray::Array2;
use serde_json::Value;
use thiserror::Error;

use super::golden::{Case, GoldenError, number, position};

/// Why a case gave no values.
#[derive(Debug, Error)]
pub(super) enum CaseError {
    /// The file is at fault.
    #[error(transparent)]
    Golden(#[from] GoldenError),
    /// The case asks for a variant that nothing here computes.
    #[error("{0}")]
    NotCovered(String),
    /// The case needs a model and none was given.
    #[error("no model")]
    NoModel,
    /// A function of our crates refused the inputs or failed.
    #[error("{0}")]
    Refused(#[from] Box<dyn StdError + Send + Sync>),
}

pub(super) type CaseResult<T = ()> = Result<T, CaseError>;

/// What all cases share.
#[derive(Debug)]
pub(super) struct Context {
    /// Without autodiff.
    pub(super) device: Device,
    pub(super) encoder: Option<SentenceEncoder>,
}

/// A computed value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Got {
    Numbers(Vec<f64>),
    /// Values of an f32 computation.
    Floats(Vec<f32>),
    Texts(Vec<String>),
    /// A cost whose expected value was searched for, not computed: it may exceed it by the tolerance
    /// of the file and fall below it by `below` times its size.
    Cost {
        value: f64,
        below: f64,
    },
    /// Compared if the file has a tolerance for it, else only shown.
    Shown(f64),
}

/// A case and what was computed for it, by the path of the leaf.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    case: &'a Case,
    context: &'a Context,
    got: Vec<(String, Got)>,
}

/// Wraps the error of one of our crates.
pub(super) fn refused(error: impl StdError + Send + Sync + 'static) -> CaseError {
    CaseError::Refused(Box::new(error))
}

impl<'a> Probe<'a> {
    pub(super) fn new(case: &'a Case, context: &'a Context) -> Self {
        Self {
            case,
            context,
            got: Vec::new(),
        }
    }

    /// Everything computed, in order; a path may occur more than once.
    pub(super) fn into_got(self) -> Vec<(String, Got)> {
        self.got
    }

    // Parameters -----------------------------------------------------------------------------

    pub(super) fn opt_number(&self, name: &str) -> CaseResult<Option<f64>> {
        Ok(self.case.param_as(name, "a number", number)?)
    }

    pub(super) fn number(&self, name: &str) -> CaseResult<f64> {
        let missing = || self.case.missing_param(name, "a number");
        Ok(self.opt_number(name)?.ok_or_else(missing)?)
    }

    pub(super) fn count(&self, name: &str) -> CaseResult<usize> {
        self.whole(name, "a whole number of at least 0", usize::MAX)
    }

    /// A count that memory or time is proportional to. Golden cases are small; a file cannot ask for
    /// terabytes.
    pub(super) fn size(&self, name: &str) -> CaseResult<usize> {
        self.whole(name, "a whole number of 0 to 1000000", 1_000_000)
    }

    fn whole(&self, name: &str, expected: &'static str, most: usize) -> CaseResult<usize> {
        let missing = || self.case.missing_param(name, expected);
        let fits = |value: &Value| position(value).filter(|&n| n <= most);
        Ok(self
            .case
            .param_as(name, expected, fits)?
            .ok_or_else(missing)?)
    }

    pub(super) fn list(&self, name: &str) -> CaseResult<Vec<f64>> {
        const EXPECTED: &str = "a list of numbers";
        let missing = || self.case.missing_param(name, EXPECTED);
        let convert = |value: &Value| value.as_array()?.iter().map(number).collect();
        Ok(self
            .case
            .param_as(name, EXPECTED, convert)?
            .ok_or_else(missing)?)
    }

    pub(super) fn param(&self, name: &str) -> Option<&'a Value> {
        self.case.param(name)
    }

    /// A parameter that is one of a few words; `default` if it is absent.
    pub(super) fn word(&self, name: &str, default: &'a str) -> CaseResult<&'a str> {
        let word = self.case.param_as(name, "a text", Value::as_str)?;
        Ok(word.unwrap_or(default))
    }

    /// Refuses a variant of the case other than the only one there is.
    pub(super) fn require(&self, name: &str, only: &str) -> CaseResult {
        match self.word(name, only)? {
            word if word == only => Ok(()),
            other => Err(self.unknown(name, other)),
        }
    }

    /// The error for a value of a parameter that nothing here computes.
    pub(super) fn unknown(&self, name: &str, value: impl std::fmt::Display) -> CaseError {
        CaseError::NotCovered(format!("params.{name} = {value}"))
    }

    // Inputs ---------------------------------------------------------------------------------

    pub(super) fn has(&self, name: &str) -> bool {
        self.case.has_input(name)
    }

    pub(super) fn texts(&self, name: &str) -> CaseResult<&'a [String]> {
        Ok(self.case.texts(name)?)
    }

    /// The numbers of an input; f32 inputs hold exactly representable f32 values.
    pub(super) fn doubles(&self, name: &str) -> CaseResult<&'a [f64]> {
        Ok(&self.case.tensor(name)?.data)
    }

    pub(super) fn floats(&self, name: &str) -> CaseResult<Vec<f32>> {
        Ok(self.doubles(name)?.iter().map(|x| *x as f32).collect())
    }

    pub(super) fn integers(&self, name: &str) -> CaseResult<Vec<i64>> {
        let whole = |x: &f64| (x.fract() == 0.0 && x.abs() < 9e15).then_some(*x as i64);
        self.converted(name, "whole numbers", whole)
    }

    /// Ids, positions or counts.
    pub(super) fn ids(&self, name: &str) -> CaseResult<Vec<usize>> {
        let id = |x: &f64| (x.fract() == 0.0 && (0.0..9e15).contains(x)).then_some(*x as usize);
        self.converted(name, "whole numbers of at least 0", id)
    }

    fn converted<T>(
        &self,
        name: &str,
        expected: &str,
        convert: impl Fn(&f64) -> Option<T>,
    ) -> CaseResult<Vec<T>> {
        self.doubles(name)?
            .iter()
            .map(|x| convert(x).ok_or_else(|| self.case.unfit_input(name, expected, x).into()))
            .collect()
    }

    /// Rows and columns of an input.
    pub(super) fn dims(&self, name: &str) -> CaseResult<[usize; 2]> {
        self.shape::<2>(name)
    }

    /// The shape of an input, padded in front with 1 if it has fewer dimensions than asked for.
    fn shape<const D: usize>(&self, name: &str) -> CaseResult<[usize; D]> {
        let tensor = self.case.tensor(name)?;
        // A single number is stored with the shape [].
        let shape = match tensor.shape.as_slice() {
            [] => vec![1; D],
            shape => shape.to_vec(),
        };
        let expected = format!("{D} dimensions");
        let found = format!("shape {:?}", tensor.shape);
        let unfit = |_| self.case.unfit_input(name, expected, found);
        Ok(shape.try_into().map_err(unfit)?)
    }

    pub(super) fn matrix(&self, name: &str) -> CaseResult<Array2<f32>> {
        let [rows, columns] = self.dims(name)?;
        Array2::from_shape_vec((rows, columns), self.floats(name)?).map_err(refused)
    }

    /// The device of the run, without autodiff.
    pub(super) fn device(&self) -> &'a Device {
        &self.context.device
    }

    /// An input as a constant.
    pub(super) fn constant<const D: usize>(&self, name: &str) -> CaseResult<Tensor<D>> {
        self.tensor_on(name, self.device())
    }

    /// An input as a tensor that gets a gradient.
    pub(super) fn leaf<const D: usize>(&self, name: &str) -> CaseResult<Tensor<D>> {
        Ok(self.tracked(name)?.require_grad())
    }

    /// An input on the autodiff device.
    pub(super) fn tracked<const D: usize>(&self, name: &str) -> CaseResult<Tensor<D>> {
        self.tensor_on(name, &self.device().clone().autodiff())
    }

    fn tensor_on<const D: usize>(&self, name: &str, device: &Device) -> CaseResult<Tensor<D>> {
        let shape = self.shape::<D>(name)?;
        let data = TensorData::new(self.floats(name)?, shape);
        Ok(Tensor::from_data(data, device))
    }

    /// The model of the run.
    pub(super) fn encoder(&self) -> CaseResult<&'a SentenceEncoder> {
        self.context.encoder.as_ref().ok_or(CaseError::NoModel)
    }

    // Results --------------------------------------------------------------------------------

    /// Names of the expected items, in the order of the file.
    pub(super) fn expected_items(&self) -> impl Iterator<Item = &'a str> {
        self.case.expected.iter().map(|(item, _)| item.as_str())
    }

    /// The length of an expected item that is a list of objects, 0 for any other.
    pub(super) fn expected_length(&self, item: &str) -> usize {
        let found = self.case.expected.iter().find(|(name, _)| name == item);
        let leaves = found.map_or(&[][..], |(_, leaves)| leaves.as_slice());
        let index = |path: &str| -> Option<usize> {
            let rest = path.strip_prefix(item)?.strip_prefix('[')?;
            rest.split_once(']')?.0.parse().ok()
        };
        let last = leaves.iter().filter_map(|leaf| index(&leaf.path)).max();
        last.map_or(0, |last| last + 1)
    }

    pub(super) fn put(&mut self, path: impl Into<String>, got: Got) {
        self.got.push((path.into(), got));
    }

    pub(super) fn put_number(&mut self, path: impl Into<String>, value: f64) {
        self.put(path, Got::Numbers(vec![value]));
    }

    pub(super) fn put_numbers(&mut self, path: impl Into<String>, values: Vec<f64>) {
        self.put(path, Got::Numbers(values));
    }

    pub(super) fn put_floats(&mut self, path: impl Into<String>, values: Vec<f32>) {
        self.put(path, Got::Floats(values));
    }

    pub(super) fn put_tensor<const D: usize>(
        &mut self,
        path: impl Into<String>,
        tensor: Tensor<D>,
    ) -> CaseResult {
        let values = tensor.try_into_vec_as::<f32>().map_err(refused)?;
        self.put_floats(path, values);
        Ok(())
    }

    /// Records `grad.name`; a leaf that the loss does not depend on has a gradient of zero.
    pub(super) fn put_grad<const D: usize>(
        &mut self,
        name: &str,
        leaf: &Tensor<D>,
        grads: &Gradients,
    ) -> CaseResult {
        let grad = leaf
            .grad(grads)
            .unwrap_or_else(|| leaf.clone().without_autodiff().zeros_like());
        self.put_tensor(format!("grad.{name}"), grad)
    }
}
