//! Vectors in fewer bits.
//!
//! ```text
//! int8, uint8      q = clip(floor((x - lo) / step), 0, 255), int8 stores q - 128;
//!                  step = (hi - lo) / 255, and 1 where hi = lo
//! ubinary, binary  bit j of a row is 1 where x_j > 0, eight to a byte, the first one highest,
//!                  rows padded with zeros; binary stores the byte minus 128
//! ```
//!
//! `lo` and `hi` are the smallest and largest value of each dimension over calibration vectors.
//!
//! Source: semantics of `quantize_embeddings` of sentence-transformers 6.2.

use std::fmt;
use std::str::FromStr;

use crate::error::EncoderError;
use crate::sentence_encoder::Embeddings;

/// Number format of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As computed.
    #[default]
    Float32,
    /// One signed byte a dimension.
    Int8,
    /// One unsigned byte a dimension.
    Uint8,
    /// One bit a dimension, bytes shifted to the signed range.
    Binary,
    /// One bit a dimension.
    Ubinary,
}

impl Precision {
    /// All precisions.
    pub const ALL: [Self; 5] = [
        Self::Float32,
        Self::Int8,
        Self::Uint8,
        Self::Binary,
        Self::Ubinary,
    ];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
        })
    }
}

impl FromStr for Precision {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.to_string() == text)
            .ok_or_else(|| EncoderError::Config {
                origin: "quantization".to_owned(),
                field: "precision",
                found: text.to_owned(),
                expected: "float32, int8, uint8, binary or ubinary".to_owned(),
            })
    }
}

/// Smallest and largest value of every dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    /// `[dim]`.
    pub lowest: Vec<f32>,
    /// `[dim]`.
    pub highest: Vec<f32>,
}

impl Ranges {
    /// Ranges of calibration vectors, the more the better (some thousands of typical texts).
    ///
    /// # Errors
    ///
    /// Fewer than two vectors: a single one has no range.
    pub fn of(vectors: &Embeddings) -> Result<Self, EncoderError> {
        if vectors.rows() < 2 {
            return Err(EncoderError::Shape {
                operation: "quantization ranges",
                expected: "at least 2 calibration vectors".to_owned(),
                found: vectors.rows().to_string(),
            });
        }
        let mut ranges = Self {
            lowest: vectors.row(0).to_vec(),
            highest: vectors.row(0).to_vec(),
        };
        for row in 1..vectors.rows() {
            let bounds = ranges.lowest.iter_mut().zip(&mut ranges.highest);
            for (value, (lowest, highest)) in vectors.row(row).iter().zip(bounds) {
                *lowest = lowest.min(*value);
                *highest = highest.max(*value);
            }
        }
        Ok(ranges)
    }
}

/// Row-major values of one number format.
#[derive(Clone, Debug, PartialEq)]
pub enum QuantizedValues {
    /// `float32`.
    Float32(Vec<f32>),
    /// `int8` and `binary`.
    Signed(Vec<i8>),
    /// `uint8` and `ubinary`.
    Unsigned(Vec<u8>),
}

/// Quantised vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedEmbeddings {
    /// `[rows * width]`.
    pub values: QuantizedValues,
    /// Values of a row: the dimension, or an eighth of it rounded up for bits.
    pub width: usize,
}

/// Vectors in another number format; `ranges` serve `int8` and `uint8` alone, and without them the
/// vectors' own are taken.
///
/// # Errors
///
/// Ranges of another dimension, or none and fewer than two vectors to take them from.
///
/// ```
/// use encoder::{Embeddings, Precision, QuantizedValues, quantize};
/// let vectors = Embeddings { values: vec![0.5, -0.5, 0.1], dim: 3 };
/// let bits = quantize(&vectors, Precision::Ubinary, None).unwrap();
/// assert_eq!((bits.values, bits.width), (QuantizedValues::Unsigned(vec![0b1010_0000]), 1));
/// ```
pub fn quantize(
    vectors: &Embeddings,
    precision: Precision,
    ranges: Option<&Ranges>,
) -> Result<QuantizedEmbeddings, EncoderError> {
    let dim = vectors.dim;
    let scaled = || -> Result<Vec<u8>, EncoderError> {
        if vectors.rows() == 0 {
            return Ok(Vec::new());
        }
        let own;
        let ranges = match ranges {
            Some(ranges) => ranges,
            None => {
                own = Ranges::of(vectors)?;
                &own
            }
        };
        if ranges.lowest.len() != dim || ranges.highest.len() != dim {
            return Err(EncoderError::Shape {
                operation: "quantization",
                expected: format!("ranges of {dim} dimensions"),
                found: format!("{} and {}", ranges.lowest.len(), ranges.highest.len()),
            });
        }
        let row = |row: &[f32]| -> Vec<u8> {
            let bounds = ranges.lowest.iter().zip(&ranges.highest);
            row.iter()
                .zip(bounds)
                .map(|(value, (lowest, highest))| {
                    let step = (highest - lowest) / 255.0;
                    let step = if step == 0.0 { 1.0 } else { step };
                    // The cast takes NaN to 0.
                    ((value - lowest) / step).floor().clamp(0.0, 255.0) as u8
                })
                .collect()
        };
        Ok((0..vectors.rows())
            .flat_map(|r| row(vectors.row(r)))
            .collect())
    };
    let bits = || -> Vec<u8> {
        let byte = |values: &[f32]| {
            let bits = values.iter().enumerate();
            bits.fold(0u8, |byte, (at, value)| {
                byte | (u8::from(*value > 0.0) << (7 - at))
            })
        };
        (0..vectors.rows())
            .flat_map(|r| vectors.row(r).chunks(8).map(byte).collect::<Vec<_>>())
            .collect()
    };
    let shift = |bytes: Vec<u8>| {
        bytes
            .into_iter()
            .map(|byte| (i16::from(byte) - 128) as i8)
            .collect()
    };
    let (values, width) = match precision {
        Precision::Float32 => (QuantizedValues::Float32(vectors.values.clone()), dim),
        Precision::Int8 => (QuantizedValues::Signed(shift(scaled()?)), dim),
        Precision::Uint8 => (QuantizedValues::Unsigned(scaled()?), dim),
        Precision::Binary => (QuantizedValues::Signed(shift(bits())), dim.div_ceil(8)),
        Precision::Ubinary => (QuantizedValues::Unsigned(bits()), dim.div_ceil(8)),
    };
    Ok(QuantizedEmbeddings { values, width })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `a[i, j] = sin(phase_1 (i + k)(j + 1) + phase_2) + slope (i - j)`, i < 5, j < 11.
    fn rows(k: usize, phase: (f64, f64), slope: f64) -> Embeddings {
        let value = |i: usize, j: usize| {
            let angle = phase.0 * ((i + k) * (j + 1)) as f64 + phase.1;
            (angle.sin() + slope * (i as f64 - j as f64)) as f32
        };
        Embeddings {
            values: (0..55).map(|n| value(n / 11, n % 11)).collect(),
            dim: 11,
        }
    }

    fn vectors() -> Embeddings {
        let mut vectors = rows(1, (0.7, 0.3), 0.1);
        // A dimension without spread.
        vectors
            .values
            .iter_mut()
            .skip(4)
            .step_by(11)
            .for_each(|value| *value = 0.25);
        vectors
    }

    fn calibration() -> Embeddings {
        rows(2, (0.31, 0.9), 0.05)
    }

    /// Printed by `quantize_embeddings` of sentence-transformers 6.2 for the same vectors.
    const UINT8: [[u8; 11]; 5] = [
        [206, 222, 215, 80, 0, 0, 0, 90, 0, 210, 217],
        [255, 115, 0, 39, 0, 220, 44, 1, 63, 255, 109],
        [212, 0, 192, 186, 0, 190, 215, 0, 127, 208, 0],
        [108, 88, 255, 0, 0, 37, 255, 95, 191, 102, 95],
        [0, 254, 41, 255, 0, 255, 118, 255, 255, 0, 255],
    ];
    const CALIBRATED: [[u8; 11]; 5] = [
        [154, 255, 255, 105, 191, 0, 0, 22, 100, 184, 186],
        [255, 138, 0, 65, 191, 194, 4, 0, 118, 225, 71],
        [173, 0, 255, 208, 191, 163, 176, 0, 136, 181, 0],
        [0, 104, 255, 27, 191, 7, 216, 25, 154, 83, 55],
        [0, 255, 42, 255, 191, 229, 79, 127, 172, 0, 225],
    ];
    const BITS: [u8; 10] = [232, 0, 204, 64, 190, 0, 170, 0, 92, 32];

    #[test]
    fn bytes_are_those_of_python() {
        let calibrated = Ranges::of(&calibration()).unwrap();
        for (ranges, want) in [(None, UINT8), (Some(&calibrated), CALIBRATED)] {
            let unsigned = quantize(&vectors(), Precision::Uint8, ranges).unwrap();
            assert_eq!(unsigned.width, 11);
            assert_eq!(unsigned.values, QuantizedValues::Unsigned(want.concat()));
            let signed = quantize(&vectors(), Precision::Int8, ranges).unwrap();
            let want = want
                .concat()
                .into_iter()
                .map(|byte| (i16::from(byte) - 128) as i8);
            assert_eq!(signed.values, QuantizedValues::Signed(want.collect()));
        }
    }

    #[test]
    fn bits_are_those_of_python() {
        let unsigned = quantize(&vectors(), Precision::Ubinary, None).unwrap();
        assert_eq!(
            (unsigned.values, unsigned.width),
            (QuantizedValues::Unsigned(BITS.to_vec()), 2)
        );
        let signed = quantize(&vectors(), Precision::Binary, None).unwrap();
        let want = vec![104, -128, 76, -64, 62, -128, 42, -128, -36, -96];
        assert_eq!(signed.values, QuantizedValues::Signed(want));
    }

    #[test]
    fn ranges_need_two_vectors_of_the_same_dimension() {
        let one = Embeddings {
            values: vec![0.0; 11],
            dim: 11,
        };
        for precision in [Precision::Int8, Precision::Uint8] {
            assert!(quantize(&one, precision, None).is_err());
            let narrow = Ranges {
                lowest: vec![0.0; 3],
                highest: vec![1.0; 3],
            };
            let error = quantize(&one, precision, Some(&narrow)).unwrap_err();
            assert!(error.to_string().contains("11"), "{error}");
        }
        assert!(quantize(&one, Precision::Binary, None).is_ok());
        let none = Embeddings {
            values: Vec::new(),
            dim: 11,
        };
        assert!(quantize(&none, Precision::Int8, None).is_ok());
    }

    #[test]
    fn names_read_back() {
        for precision in Precision::ALL {
            assert_eq!(
                precision.to_string().parse::<Precision>().unwrap(),
                precision
            );
        }
        assert!("int4".parse::<Precision>().is_err());
    }
}
