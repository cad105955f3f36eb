//! Values that the specification of the sentence embedding systems gives, computed in f64 from
//! inputs with a formula: `M(off)[i, j] = sin(0.7 (i + 1)(j + 1) + off) + 0.1 (i - j)`.

use burn::tensor::{Device, Tensor, TensorData};
use losses::{
    AlignmentConfig, CosentConfig, GeneratedRows, HierarchicalTripletConfig, InfoNceConfig,
    L1Config, LeftClamp, MseConfig, NgcseConfig, OrdinaryRows, SmoothK2Config,
    TranslatedReluConfig, UniformityConfig,
};

/// `M(off)`, `[4, 6]`.
fn m(off: f64) -> Tensor<2> {
    m_on(off, &Device::flex())
}

fn m_on(off: f64, device: &Device) -> Tensor<2> {
    let entry = |at: usize| {
        let (i, j) = ((at / 6) as f64, (at % 6) as f64);
        ((0.7 * (i + 1.0) * (j + 1.0) + off).sin() + 0.1 * (i - j)) as f32
    };
    let values: Vec<f32> = (0..24).map(entry).collect();
    Tensor::from_data(TensorData::new(values, [4, 6]), device)
}

fn vector(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::flex())
}

/// 1e-4 of the value, the precision asked of f32, plus 1e-6.
fn assert_value(what: &str, got: Tensor<1>, want: f64) {
    let got = f64::from(got.into_scalar::<f32>());
    let difference = (got - want).abs();
    assert!(
        difference <= 1e-6 + 1e-4 * want.abs().min(1e-2),
        "{what}: {got} against {want}"
    );
}

#[test]
fn info_nce() {
    let value = |tau: f64, weight: f64, hard: bool| {
        let config = InfoNceConfig::new().with_temperature(tau);
        let loss = config.with_hard_negative_weight(weight).init().unwrap();
        let hard = hard.then(|| m(1.1));
        loss.forward(m(0.0), m(0.3), hard).unwrap()
    };
    let ln2 = 2f64.ln();
    for (tau, weight, hard, want) in [
        (0.05, 0.0, false, 3.935_182_641e-6),
        (1.0, 0.0, false, 0.803_695_308),
        (0.05, 0.0, true, 0.003_036_132_292),
        (1.0, 0.0, true, 1.420_444_636),
        (0.05, ln2, true, 0.006_017_085_124),
        (1.0, ln2, true, 1.566_454_290),
    ] {
        let what = format!("tau {tau}, weight {weight}, hard {hard}");
        assert_value(&what, value(tau, weight, hard), want);
    }
}

#[test]
fn gradient_of_info_nce() {
    let device = Device::flex().autodiff();
    let want = [
        0.002_671_86,
        -0.002_830_59,
        -0.007_206_98,
        -0.008_382_14,
        -0.005_798_22,
        -0.001_097_20,
    ];
    for chunk in [None, Some(1), Some(3), Some(100)] {
        let anchors = m_on(0.0, &device).require_grad();
        let loss = InfoNceConfig::new().with_chunk(chunk).init().unwrap();
        let value = loss.forward(anchors.clone(), m(0.3), Some(m(1.1)));
        let gradient = anchors.grad(&value.unwrap().backward()).unwrap();
        let gradient = gradient.try_into_vec_as::<f32>().unwrap();
        for (got, want) in gradient.iter().zip(want) {
            let difference = (f64::from(*got) - want).abs();
            assert!(difference < 1e-6, "{chunk:?}: {got} against {want}");
        }
    }
}

#[test]
fn hierarchical_triplet() {
    let value = |margins: [f64; 2], anchors, levels: &[Tensor<2>]| {
        let config = HierarchicalTripletConfig::new().with_margins(margins.to_vec());
        config.init().unwrap().forward(anchors, levels).unwrap()
    };
    let levels = [m(0.3), m(0.28), m(0.36)];
    for (margins, want) in [
        ([5e-3, 5e-2], 0.020_820_509_927),
        ([5e-3, 1e-1], 0.045_820_509_927),
    ] {
        assert_value("HT", value(margins, m(0.0), &levels), want);
    }
    let levels = [m(0.55), m(0.62), m(1.4)];
    let got = value([5e-3, 5e-2], m(0.5), &levels);
    assert_value("HT of the joint objective", got, 0.000_332_860_196);
}

#[test]
fn ngcse() {
    let triplet = HierarchicalTripletConfig::new();
    for (triplet, want) in [
        (Some(triplet), 0.372_469_829_747),
        (None, 0.375_201_201_006),
    ] {
        let on = triplet.is_some();
        let loss = NgcseConfig::new().with_triplet(triplet).init().unwrap();
        let ordinary = OrdinaryRows {
            anchors: m(0.0),
            positives: m(0.3),
            hard_negatives: None,
        };
        let generated = GeneratedRows {
            anchors: m(0.5),
            levels: vec![m(0.55), m(0.62), m(1.4)],
        };
        let output = loss.forward(Some(ordinary), Some(generated)).unwrap();
        assert_value("contrast", output.contrast, want);
        let triplet = if on { 0.000_332_860_196 } else { 0.0 };
        assert_value("triplet", output.triplet, triplet);
        assert_value("loss", output.loss, want + triplet);
    }
}

#[test]
fn alignment_and_uniformity() {
    let alignment = AlignmentConfig::new().init().unwrap();
    let got = alignment.forward(m(0.0), m(0.3)).unwrap();
    assert_value("align", got, 0.059_245_176_749);
    let uniformity = UniformityConfig::new().init().unwrap();
    let got = uniformity.forward(Tensor::cat(vec![m(0.0), m(0.3)], 0));
    assert_value("uniform", got.unwrap(), -1.864_295_816_963);
}

#[test]
fn regression() {
    let scores = || vector(&[-0.4, 0.1, 0.9, 1.3, 2.0, 2.6]);
    let labels = || vector(&[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    for (clamp, want) in [
        (LeftClamp::All, 0.166_666_667),
        (LeftClamp::LabelMinOnly(0.0), 0.166_666_667),
        (LeftClamp::None, 0.229_166_667),
    ] {
        let config = TranslatedReluConfig::new().with_k(2.5).with_x0(0.25);
        let loss = config.with_left_clamp(clamp).init().unwrap();
        let what = format!("Translated ReLU, {clamp}");
        assert_value(&what, loss.forward(scores(), labels()).unwrap(), want);
    }
    for (k, clamp, want) in [
        (2.0, LeftClamp::All, 0.041_666_667),
        (2.0, LeftClamp::None, 0.049_166_667),
        (3.0, LeftClamp::All, 0.0625),
    ] {
        let config = SmoothK2Config::new().with_k(k).with_x0(0.25);
        let loss = config.with_left_clamp(clamp).init().unwrap();
        let what = format!("Smooth K2, {k}, {clamp}");
        assert_value(&what, loss.forward(scores(), labels()).unwrap(), want);
    }
    let l1 = L1Config::new().init().unwrap();
    let got = l1.forward(scores(), labels()).unwrap();
    assert_value("L1", got, 0.183_333_333);
    let mse = MseConfig::new().init().unwrap();
    let got = mse.forward(scores(), labels()).unwrap();
    assert_value("MSE", got, 0.078_333_333);
}

#[test]
fn cosent() {
    let loss = CosentConfig::new().with_scale(20.0).init().unwrap();
    let got = loss.forward_similarities(
        vector(&[0.9, 0.2, 0.5, 0.7, 0.1]),
        vector(&[1.0, 0.0, 0.6, 0.6, 0.2]),
    );
    assert_value("CoSENT", got.unwrap(), 2.129_489_712);
}
