//! Writes a page with many made-up texts, some of them hostile, for the browser test.
//!
//! ```text
//! cargo run -p explorer --example synthetic -- OUT.html [--texts N] [--served] [--plain-texts]
//! ```

use std::error::Error;

use explorer::{Category, Comparison, Counterpart, Explorer, Place, Point};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const COARSE: [&str; 10] = [
    "banking",
    "travel",
    "kitchen",
    "work",
    "car",
    "home",
    "small talk",
    "utility",
    "meta",
    "credit cards",
];
const SUBJECTS: [&str; 15] = [
    "card", "payment", "ticket", "invoice", "meeting", "recipe", "tyre", "alarm", "order",
    "password", "flight", "balance", "holiday", "delivery", "light",
];
const WISHES: [&str; 8] = [
    "where is my",
    "please cancel the",
    "how do i change my",
    "i lost the",
    "tell me about the",
    "why was my",
    "can you repeat the",
    "i want to report a",
];
const ENDINGS: [&str; 7] = [
    "",
    " today",
    " again",
    " for my mother",
    " please",
    " as soon as possible",
    " from last week",
];
/// Markup, ends of scripts, separators of lines, characters without width, endless words.
const HOSTILE: [&str; 8] = [
    "<script>window.stolen = 1</script>",
    "</script><script>window.stolen = 2</script>",
    "<!--<script>window.stolen = 3",
    "<img src=x onerror=\"window.stolen = 4\">",
    "{{data}} {{script}} & &amp; &lt;b&gt;",
    "two\u{2028}lines\u{2029}and \u{202e}turned\u{202c} \u{0}zero",
    "\"quotes' `and` ${window.stolen = 5} \\u003c",
    "\u{1f600} 日本語のテキスト مرحبا İstanbul",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut texts = 50_000;
    let mut place = Place::File;
    let mut hostile = true;
    let mut out = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--texts" => texts = arguments.next().ok_or("--texts needs a number")?.parse()?,
            "--served" => place = Place::Server,
            "--plain-texts" => hostile = false,
            _ => out = Some(argument),
        }
    }
    let out = out.ok_or("the name of a file is needed")?;
    std::fs::write(out, page(texts, hostile, place)?)?;
    Ok(())
}

fn page(texts: usize, hostile: bool, place: Place) -> Result<String, Box<dyn Error>> {
    let per_coarse = SUBJECTS.len();
    let k = COARSE.len() * per_coarse;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let centres: Vec<(f32, f32, f32)> = (0..k)
        .map(|id| {
            let angle = (id / per_coarse) as f32 / COARSE.len() as f32 * std::f32::consts::TAU;
            let near = |rng: &mut ChaCha8Rng| rng.random_range(-21.0..21.0_f32);
            let radius = 42.0;
            (
                radius * angle.cos() + near(&mut rng),
                radius * angle.sin() + near(&mut rng),
                rng.random_range(1.0..3.2),
            )
        })
        .collect();
    let mut points = Vec::with_capacity(texts);
    let mut others = Vec::with_capacity(texts);
    let mut sizes = vec![0_usize; k];
    let mut examples: Vec<Vec<String>> = vec![Vec::new(); k];
    for row in 0..texts {
        // Categories of very different size.
        let share: f32 = rng.random_range(0.0..1.0);
        let id = ((share * share * k as f32) as usize * 37) % k;
        let (x, y, width) = centres.get(id).copied().unwrap_or_default();
        // The sum of four uniform numbers is close enough to normal.
        let noise = |rng: &mut ChaCha8Rng| {
            (0..4).map(|_| rng.random_range(-1.0..1.0_f32)).sum::<f32>() * width
        };
        let (x, y) = (x + noise(&mut rng), y + noise(&mut rng));
        let coarse = COARSE[id / per_coarse];
        let subject = SUBJECTS[id % per_coarse];
        let wish = WISHES[rng.random_range(0..WISHES.len())];
        let ending = ENDINGS[rng.random_range(0..ENDINGS.len())];
        let mut text = format!("{wish} {subject}{ending} ({coarse} {row})");
        if hostile && row % 500 == 0 {
            text = format!("{} {row}", HOSTILE[row / 500 % HOSTILE.len()]);
        }
        if hostile && row == 77 {
            text = "endless".repeat(2000);
        }
        sizes[id] += 1;
        if examples[id].len() < 5 {
            examples[id].push(text.clone());
        }
        let stray: f32 = rng.random_range(0.0..1.0);
        let fine = if stray < 0.06 { (id + 1) % k } else { id };
        others.push(match stray {
            s if s < 0.02 => None,
            s if s < 0.1 => Some(((id + 1) % k) as u32),
            _ => Some(id as u32),
        });
        points.push(Point {
            x,
            y,
            text,
            category: id as u32,
            coarse: Some(coarse.to_owned()),
            fine: Some(name(fine)),
            split: Some(match row % 10 {
                0 => "test".to_owned(),
                1 => "update-1".to_owned(),
                _ => "train".to_owned(),
            }),
        });
    }
    let categories = (0..k)
        .map(|id| Category {
            name: if hostile && id == 3 {
                "<b>bold</b> & \"quoted\"".to_owned()
            } else {
                name(id)
            },
            named_by_hand: id % 40 == 0,
            coarse: Some(COARSE[id / per_coarse].to_owned()),
            keywords: [
                SUBJECTS[id % per_coarse],
                COARSE[id / per_coarse],
                "cancel",
                "change",
                "report",
            ]
            .into_iter()
            .zip([0.42, 0.31, 0.12, 0.11, 0.07])
            .map(|(term, weight)| (term.to_owned(), weight))
            .collect(),
            medoids: examples.get(id).cloned().unwrap_or_default(),
            size: sizes[id],
            coherence: Some(0.55 + 0.4 * ((id * 31 % 97) as f64 / 97.0)),
            nearest: nearest(&centres, id),
            ..Category::new(id as u32, "")
        })
        .collect();
    let comparison = Comparison {
        title: "an earlier run".to_owned(),
        categories: (0..k)
            .map(|id| Counterpart {
                id: id as u32,
                name: name(id),
                coarse: Some(COARSE[id / per_coarse].to_owned()),
            })
            .collect(),
        category: others,
    };
    let explorer = Explorer {
        title: if hostile {
            "Synthetic <texts>"
        } else {
            "Requests to an assistant"
        }
        .to_owned(),
        revision: 1,
        next_id: 0,
        total: 0,
        points,
        categories,
        comparison: Some(comparison),
    };
    Ok(explorer.page(place)?)
}

fn name(id: usize) -> String {
    format!(
        "{} {}",
        SUBJECTS[id % SUBJECTS.len()],
        COARSE[id / SUBJECTS.len()]
    )
}

fn nearest(centres: &[(f32, f32, f32)], id: usize) -> Vec<(u32, f32)> {
    let (x, y, _) = centres[id];
    let mut near: Vec<(u32, f32)> = centres
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != id)
        .map(|(other, (a, b, _))| (other as u32, 1.0 - (a - x).hypot(b - y) / 130.0))
        .collect();
    near.sort_by(|a, b| b.1.total_cmp(&a.1));
    near.truncate(5);
    near
}
