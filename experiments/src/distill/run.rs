//! The run: corpus, teacher's vectors, student.

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use encoder::{Embeddings, Pooling, SentenceEncoder, WordPieceTraining};
use kernels::DeviceSpec;
use losses::{EmbeddingDistance, EmbeddingDistillationConfig};
use serde_json::{Map, Value, json};
use training::{Streams, stream};

use super::config::DistillConfig;
use super::corpus::{Corpus, CorpusOptions, Held};
use super::method::{Distillation, NoHead};
use super::projection::Projection;
use super::student;
use super::teacher::{Origin, teacher_vectors};
use crate::embedding::{
    Accumulation, BatchOrder, BatchRules, Column, Encoding, Evaluation, Outcome, SentenceModel,
    Start, StartOptions, TextTable, Trainer, finish,
};
use crate::error::RunError;
use crate::result::ResultFile;
use crate::session::{Opening, Program, Request, Session};

/// Key of the training stage in the random streams.
const KEY: u64 = 1;
/// Texts that the speed of teacher and student is measured on.
const SPEED_TEXTS: usize = 2000;
/// Texts a batch when it is.
const SPEED_BATCH: usize = 64;

/// Runs (or continues) the experiment and returns its results.
///
/// # Errors
///
/// Anything from bad input to a full disk; [`RunError::Interrupted`] after a signal, with everything
/// saved.
pub fn run(request: Request<'_, DistillConfig>) -> Result<ResultFile, RunError> {
    let began = Instant::now();
    let config = request.config.clone();
    config.check()?;
    let spec: DeviceSpec = config.device.parse()?;
    let device = spec.open()?;
    let prepared = Prepared::new(&config, &device)?;
    let mut data = prepared.teacher_scores.hashes.clone();
    data.extend(prepared.corpus.hashes());
    let opening = Opening {
        experiment: "distill",
        seeds: &config.seeds,
        device: spec,
        data: &data,
        model: &prepared.start.hashes,
        checkpoints_kept: config.checkpoints_kept,
        guard: &config.guard,
    };
    let mut session = Session::open(request, &opening)?;
    session
        .dir
        .write("corpus.json", prepared.description(&config)?.as_bytes())?;
    session.say(&prepared.notes());
    let mut program = DistillRun {
        config,
        prepared,
        vectors: None,
    };
    session.run(&mut program)?;
    let outcome = Outcome {
        data_name: "corpus".to_owned(),
        train_rows: program.prepared.corpus.texts.len(),
        start: &program.prepared.start,
        facts: program.facts(&session, &device)?,
    };
    finish(&mut session, outcome, began)
}

/// Everything that is the same for all seeds.
struct Prepared {
    /// The teacher, with the length it teaches at.
    start: Start,
    corpus: Corpus,
    /// A student with random weights, for its sizes and its tokenizer.
    student: SentenceEncoder,
    texts: TextTable,
    columns: Vec<Vec<usize>>,
    teacher_scores: Evaluation,
    student_scores: Evaluation,
    device: Device,
}

impl Prepared {
    fn new(config: &DistillConfig, device: &Device) -> Result<Self, RunError> {
        let mut start = Start::load(
            &StartOptions {
                model: &config.model,
                dropout: -1.0,
                allow_non_finite: false,
                gradient_checkpointing: false,
                precision: "f32",
                max_len: config.max_len,
            },
            device,
        )?;
        start.encoder.max_len = config.max_len;
        let sts = match config.sts.as_str() {
            "" => String::new(),
            dir => config.path(dir).to_string_lossy().into_owned(),
        };
        let scores = |encoder: &SentenceEncoder| {
            let batch_size = config.selection.batch_size;
            Evaluation::new(&sts, encoder, config.eval_max_len, batch_size)
        };
        let teacher_scores = scores(&start.encoder)?;
        let mut held = config.excluded();
        if !sts.is_empty() {
            held.push(Path::new(&sts).to_owned());
        }
        let corpus = Corpus::new(&CorpusOptions {
            sources: &config.sources()?,
            min_words: config.min_words,
            fragments: config.fragments,
            utterances: config.utterances,
            held: &Held::read(&held)?,
            seed: config.corpus_seed,
        })?;
        let tokenizer = WordPieceTraining {
            vocab_size: config.student.vocab_size,
            min_count: config.student.min_count,
            alphabet: config.student.alphabet,
        }
        .fit(&corpus.texts)?;
        let column = Column::plain(&corpus.texts);
        let (texts, columns) = TextTable::new(&[column], &tokenizer, config.max_len)?;
        let student = student::random(&config.student, tokenizer, config.max_len, 0, device)?;
        Ok(Self {
            student_scores: scores(&student)?,
            start,
            corpus,
            student,
            texts,
            columns,
            teacher_scores,
            device: device.clone(),
        })
    }

    /// Contents of `corpus.json`.
    fn description(&self, config: &DistillConfig) -> Result<String, RunError> {
        let value = json!({
            "texts": self.corpus.texts.len(),
            "tokens": self.texts.all().iter().map(Vec::len).sum::<usize>(),
            "sha256": self.corpus.sha256,
            "seed": config.corpus_seed,
            "min_words": config.min_words,
            "vocabulary": self.student.tokenizer.vocab_size(),
            "parts": self.corpus.parts,
            "left_out_texts_of": self.corpus.held,
        });
        serde_json::to_string_pretty(&value)
            .map(|text| text + "\n")
            .map_err(|error| RunError::Data(format!("write corpus.json: {error}")))
    }

    /// What a person should know of the corpus.
    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .corpus
            .parts
            .iter()
            .map(|part| {
                format!(
                    "{}: {} of {} texts, {} left out as part of an evaluation set",
                    part.name, part.kept, part.read, part.dropped.leaked
                )
            })
            .collect();
        notes.push(format!(
            "{} texts, a vocabulary of {} word pieces",
            self.corpus.texts.len(),
            self.student.tokenizer.vocab_size()
        ));
        notes
    }
}

struct DistillRun {
    config: DistillConfig,
    prepared: Prepared,
    /// The teacher's vectors from when they are first needed; taken out while a student learns.
    vectors: Option<Embeddings>,
}

impl DistillRun {
    fn take_vectors(&mut self, session: &mut Session<'_>) -> Result<Embeddings, RunError> {
        if let Some(vectors) = self.vectors.take() {
            return Ok(vectors);
        }
        let start = &self.prepared.start;
        let hashes: Vec<&str> = start.hashes.values().map(String::as_str).collect();
        let origin = Origin {
            teacher: &start.encoder,
            model: &hashes.join(" "),
            corpus: &self.prepared.corpus.sha256,
            batch_size: self.config.teacher_batch_size,
        };
        teacher_vectors(session, &origin, &self.prepared.corpus.texts)
    }

    fn order(&self, streams: &Streams) -> Result<BatchOrder, RunError> {
        BatchOrder::new(
            &BatchRules {
                size: self.config.batch_size,
                epochs: self.config.epochs,
                max_steps: self.config.max_steps,
                same_order: false,
                bucket_batches: self.config.bucket_batches,
                no_duplicates: None,
                file: &self.config.batch_order_file,
                key: KEY,
            },
            &self.prepared.columns,
            &self.prepared.texts,
            streams,
        )
    }

    fn teach(&mut self, session: &mut Session<'_>) -> Result<(), RunError> {
        self.vectors = Some(self.take_vectors(session)?);
        let Prepared {
            teacher_scores,
            start,
            ..
        } = &self.prepared;
        teacher_scores.measure(session, "teacher", "evaluating", &start.encoder)
    }

    fn learn(&mut self, session: &mut Session<'_>, seed: u64) -> Result<(), RunError> {
        let teacher = self.take_vectors(session)?;
        let config = &self.config;
        let projection = Projection::fit(&teacher, config.student.hidden_size)?;
        session.progress.message(&format!(
            "seed {seed}: student: its dimensions keep {:.1} % of the teacher's squared length",
            100.0 * projection.energy
        ));
        let streams = Streams::new(seed);
        let mut student = student::random(
            &config.student,
            self.prepared.student.tokenizer.clone(),
            config.max_len,
            streams.seed(stream::INIT, &[KEY]),
            &self.prepared.device,
        )?;
        if !session.resumes() {
            session.progress.message(&format!(
                "seed {seed}: student: word pieces from the teacher"
            ));
            student::teach_words(
                &mut student,
                &self.prepared.start.encoder,
                &projection,
                self.prepared.texts.all(),
                &config.start,
                config.teacher_batch_size,
            )?;
        }
        let order = self.order(&streams)?;
        let span = order.span(config.checkpoint_every);
        let distance = EmbeddingDistillationConfig::new().with_distance(EmbeddingDistance::Cosine);
        let mut trainer = Trainer {
            method: Distillation {
                batches: order,
                teacher,
                projection,
                vectors: distance.init(),
                vector_weight: config.vector_weight,
                similarity_weight: config.similarity_weight,
            },
            texts: &self.prepared.texts,
            dev: Some(&self.prepared.student_scores.dev),
            encoding: Encoding::Train,
            pooling: Pooling::Mean,
            dev_pooling: Pooling::Mean,
            device: self.prepared.device.clone(),
            streams,
            key: KEY,
            adamw: config.optimizer.adamw(),
            max_norm: config.optimizer.max_norm(),
            frozen: None,
            schedule: config.optimizer.linear(config.lr, span.steps),
            micro_batch: 0,
            accumulation: Accumulation::default(),
            gradient_scale: 1.0,
            select_every: config.selection.every,
            eval_batch: config.selection.batch_size,
            score_to_beat: None,
            seed,
        };
        let model = SentenceModel {
            backbone: student.bert.clone().train(),
            head: NoHead,
        };
        let trained = trainer.run(session, "student", span, model)?;
        self.vectors = Some(trainer.method.teacher);
        student.bert = trained.model.backbone.valid();
        if config.half {
            // What is measured is what is written.
            student = student.rounded_to_half();
        }
        let evaluation = &self.prepared.student_scores;
        evaluation.measure(session, "student", &trained.note, &student)?;
        if session.seed_index() == 0 {
            let dir = session.dir.path().join("model");
            match config.half {
                true => student.save_half(&dir)?,
                false => student.save(&dir)?,
            }
        }
        Ok(())
    }

    /// Facts about the student that was written, and the speed of both.
    fn facts(&self, session: &Session<'_>, device: &Device) -> Result<Value, RunError> {
        let mut facts = Map::new();
        facts.insert("max_len".to_owned(), json!(self.config.max_len));
        facts.insert(
            "vocabulary".to_owned(),
            json!(self.prepared.student.tokenizer.vocab_size()),
        );
        let sample = &self.prepared.corpus.texts;
        let sample = &sample[..sample.len().min(SPEED_TEXTS)];
        let mut speed = json!({"texts": sample.len(), "batch_size": SPEED_BATCH});
        let teacher = texts_per_second(&self.prepared.start.encoder, sample)?;
        speed["teacher"] = json!(teacher);
        let dir = session.dir.path().join("model");
        if dir.is_dir() {
            let student = SentenceEncoder::load(&dir, &encoder::LoadOptions::default(), device)?;
            let weights = dir.join("model.safetensors");
            let bytes = std::fs::metadata(&weights)
                .map_err(|error| RunError::File {
                    path: weights,
                    message: error.to_string(),
                })?
                .len();
            let rate = texts_per_second(&student, sample)?;
            speed["student"] = json!(rate);
            speed["ratio"] = json!(rate / teacher);
            facts.insert(
                "student".to_owned(),
                json!({
                    "parameters": student.bert.num_params(),
                    "weights_bytes": bytes,
                    "sha256": SentenceEncoder::weights_hash(&dir)?,
                }),
            );
        }
        facts.insert("texts_per_second".to_owned(), speed);
        Ok(Value::Object(facts))
    }
}

/// Texts encoded in a second, tokenisation included.
fn texts_per_second(encoder: &SentenceEncoder, texts: &[String]) -> Result<f64, RunError> {
    // The first batches of a process fill caches and pools.
    encoder.encode(&texts[..texts.len().min(SPEED_BATCH)], SPEED_BATCH)?;
    let began = Instant::now();
    encoder.encode(texts, SPEED_BATCH)?;
    Ok(texts.len() as f64 / began.elapsed().as_secs_f64().max(1e-9))
}

impl Program for DistillRun {
    fn phases(&self) -> Vec<u64> {
        // Every seed has batches of the same sizes.
        let seed = self.config.seeds.first().copied().unwrap_or(0);
        let steps = self
            .order(&Streams::new(seed))
            .map_or(0, |order| order.steps());
        self.config
            .stages
            .iter()
            .map(|stage| if stage == "student" { steps } else { 0 })
            .collect()
    }

    fn phase(
        &mut self,
        session: &mut Session<'_>,
        phase: usize,
        seed: u64,
    ) -> Result<(), RunError> {
        match self.config.stages.get(phase).map(String::as_str) {
            Some("teacher") => self.teach(session),
            _ => self.learn(session, seed),
        }
    }
}
