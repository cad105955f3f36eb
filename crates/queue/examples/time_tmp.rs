use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};
use queue::*;
use std::time::Instant;
#[derive(Module, Debug)]
struct Net { w: Vec<Param<Tensor<2>>> }
fn main() {
    let device = Device::flex();
    let bank = Tensor::<2>::random([8954, 384], Distribution::Normal(0.0, 1.0), &device);
    let norm = bank.clone().powf_scalar(2.0).sum_dim(1).sqrt();
    let bank = bank / norm;
    for _ in 0..3 {
        let t = Instant::now();
        let c = bank.clone().transpose();
        for s in (0..8954).step_by(512) { let _ = bank.clone().slice(s..(s+512).min(8954)).matmul(c.clone()).into_data(); }
        println!("products alone {:?}", t.elapsed());
        let t = Instant::now();
        let _ = nearest_neighbours(bank.clone(), &NeighbourParams::new(120)).unwrap();
        println!("neighbours {:?}", t.elapsed());
    }
    let coarse: Vec<usize> = (0..8954).map(|i| i % 18).collect();
    let ctx = RefreshContext { bank: bank.clone(), coarse: &coarse, refresh: 0, clusters: None };
    let mut dna = DnaPolicy::new(DnaParams::new(120)).unwrap();
    let t = Instant::now(); dna.refresh(&ctx).unwrap(); println!("dna refresh {:?}", t.elapsed());
    let mut down = DownPolicy::new(DownParams::new(120)).unwrap();
    down.refresh(&ctx).unwrap();
    let ids: Vec<usize> = (0..64).collect();
    let t = Instant::now(); let tg = down.targets(&ids, 3).unwrap(); println!("targets {:?}", t.elapsed());
    let t = Instant::now(); let _ = tg.to_tensors(&device); println!("to_tensors {:?}", t.elapsed());
    drop(ctx);
    let mut mb = MemoryBank::new(bank).unwrap();
    let rows = Tensor::<2>::random([64, 384], Distribution::Default, &device);
    for _ in 0..3 { let t = Instant::now(); mb.update(&ids, rows.clone()).unwrap(); println!("update in place {:?}", t.elapsed()); }
    for _ in 0..3 { let h = mb.vectors(); let t = Instant::now(); mb.update(&ids, rows.clone()).unwrap(); println!("update with handle alive {:?}", t.elapsed()); drop(h); }
    let dev = device.autodiff();
    let mk = || { let mut w = vec![Param::from_tensor(Tensor::<2>::random([30522, 384], Distribution::Default, &dev))];
        for _ in 0..6 { for s in [[384,384],[384,384],[384,384],[384,384],[384,1536],[1536,384]] { w.push(Param::from_tensor(Tensor::random(s, Distribution::Default, &dev))); } } Net { w } };
    let online = mk(); let mut slow = momentum_copy(&mk());
    println!("params {}", online.num_params());
    for _ in 0..6 { let t = Instant::now(); slow = update_momentum(slow, &online, 0.99).unwrap(); println!("ema {:?}", t.elapsed()); }
}
