//! A job: settings that were checked, and what is made of them once.

use super::{
    discovery::file,
    profiles,
    settings::{FileSdConfig, ScrapeConfig, Settings},
    target::{Group, LabelLimits, Plan},
};
use crate::{net::http::HttpClient, profile::relabel::Rules, settings::Problem};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A job that can run.
#[derive(Debug)]
pub(crate) struct Job {
    /// How its targets are made.
    pub(crate) plan: Plan,
    /// The time between two scrapes of a target.
    pub(crate) interval: Duration,
    /// How its targets are reached.
    pub(crate) client: HttpClient,
    /// The bytes of an answer.
    pub(crate) body: BodyLimits,
    /// Targets that are scraped; 0 means no limit.
    pub(crate) target_limit: usize,
    /// Dropped targets that are kept; 0 means no limit.
    pub(crate) keep_dropped: usize,
    /// Targets from the settings.
    pub(crate) static_groups: Arc<[Group]>,
    /// Targets from files.
    pub(crate) file_sd: Vec<FileSdConfig>,
}

/// The most bytes of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// As received.
    pub(crate) received: u64,
    /// Inflated.
    pub(crate) inflated: u64,
}

/// A shorter interval is a mistake.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

// === impl Settings ===

impl Settings {
    /// Everything that is wrong, each job's problems with its name.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.own_problems();
        for (index, config) in self.scrape_configs.iter().enumerate() {
            problems.extend(named(index, config, self.job_problems(index)));
        }
        problems
    }

    /// What works but is probably not meant.
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for (index, config) in self.scrape_configs.iter().enumerate() {
            warnings.extend(named(index, config, config.warnings()));
        }
        warnings
    }

    /// What is wrong outside of the jobs.
    pub(crate) fn own_problems(&self) -> Vec<Problem> {
        let places = [
            ("max_concurrent_scrapes", self.max_concurrent_scrapes),
            (
                "max_concurrent_delta_scrapes",
                self.max_concurrent_delta_scrapes,
            ),
        ];
        places
            .iter()
            .filter(|(_, value)| *value == 0)
            .map(|(key, _)| Problem::new(*key, format!("{key} must be at least 1")))
            .collect()
    }

    /// The jobs that can run, and what is wrong with the others.
    pub(crate) fn compile(&self) -> (Vec<Arc<Job>>, Vec<Problem>) {
        let mut jobs = Vec::new();
        let mut problems = Vec::new();
        for (index, config) in self.scrape_configs.iter().enumerate() {
            let mut wrong = self.job_problems(index);
            if wrong.is_empty() {
                match config.compile() {
                    Ok(job) => jobs.push(Arc::new(job)),
                    Err(more) => wrong = more,
                }
            }
            problems.extend(named(index, config, wrong));
        }
        (jobs, problems)
    }

    fn job_problems(&self, index: usize) -> Vec<Problem> {
        let config = &self.scrape_configs[index];
        let mut problems = config.problems();
        let first = self.scrape_configs[..index]
            .iter()
            .position(|other| other.job_name == config.job_name && !config.job_name.is_empty());
        if let Some(first) = first {
            let message =
                format!("scrape_configs[{first}] has this job_name too; names are unique");
            problems.push(Problem::new("job_name", message));
        }
        problems
    }
}

/// Puts a job's place in front of the path and its name in front of the text.
fn named(index: usize, config: &ScrapeConfig, problems: Vec<Problem>) -> Vec<Problem> {
    problems
        .into_iter()
        .map(|mut problem| {
            if !config.job_name.is_empty() {
                problem.message = format!("job {:?}: {}", config.job_name, problem.message);
            }
            problem.below(&format!("scrape_configs[{index}]"))
        })
        .collect()
}

// === impl ScrapeConfig ===

impl ScrapeConfig {
    /// What is wrong; paths begin at the job.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.job_name.is_empty() {
            problems.push(Problem::new(
                "job_name",
                "job_name is missing: name the job",
            ));
        }
        if self.scrape_interval.get() < MIN_INTERVAL {
            let message = "scrape_interval must be at least 100ms; leave it out for 10s";
            problems.push(Problem::new("scrape_interval", message));
        }
        if !matches!(&*self.scheme, "http" | "https") {
            let message = format!("scheme is {:?}: write http or https", self.scheme);
            problems.push(Problem::new("scheme", message));
        }
        problems.extend(profiles::problems(self));
        problems.extend(self.http.problems());
        problems.extend(self.other_discovery.problems());
        problems.extend(self.static_problems());
        for (index, config) in self.file_sd_configs.iter().enumerate() {
            let at = format!("file_sd_configs[{index}]");
            problems.extend(file::problems(config).into_iter().map(|p| p.below(&at)));
        }
        problems.extend(self.rules().err().unwrap_or_default());
        problems
    }

    /// Static targets that look like URLs, which only relabelling could mend.
    fn static_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.relabel_configs.is_empty() {
            return problems;
        }
        for (group, config) in self.static_configs.iter().enumerate() {
            for (at, target) in config.targets.iter().enumerate() {
                if target.contains('/') {
                    let path = format!("static_configs[{group}].targets[{at}]");
                    let message = format!(
                        "{target:?} looks like a URL: write host:port, the scheme into scheme, \
                         and the path into profiling_config.path_prefix"
                    );
                    problems.push(Problem::new(path, message));
                }
            }
        }
        problems
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut warnings = profiles::warnings(self);
        if self.normalized_addresses {
            let message = "normalized_addresses has no effect, in Parca neither";
            warnings.push(Problem::new("normalized_addresses", message));
        }
        if self.static_configs.is_empty() && self.file_sd_configs.is_empty() {
            let message = "no targets: add static_configs or file_sd_configs";
            warnings.push(Problem::new("", message));
        }
        warnings
    }

    fn rules(&self) -> Result<Rules, Vec<Problem>> {
        Rules::compile(&self.relabel_configs).map_err(|errors| {
            let problem = |error: &crate::profile::relabel::RuleError| {
                Problem::new(
                    format!("relabel_configs{}", error.path()),
                    error.to_string(),
                )
            };
            errors.iter().map(problem).collect()
        })
    }

    fn compile(&self) -> Result<Job, Vec<Problem>> {
        let limit = |bytes: u64| if bytes == 0 { u64::MAX } else { bytes };
        Ok(Job {
            plan: Plan {
                job: self.job_name.as_str().into(),
                scheme: self.scheme.as_str().into(),
                params: self.params.clone(),
                specs: profiles::specs(self),
                rules: self.rules()?,
                timeout: self.timeout(),
                limits: LabelLimits {
                    count: self.label_limit,
                    name: self.label_name_length_limit,
                    value: self.label_value_length_limit,
                },
            },
            interval: self.scrape_interval.get(),
            client: HttpClient::new(&self.http)?,
            body: BodyLimits {
                received: limit(self.body_size_limit.get()),
                inflated: limit(self.body_size_limit_uncompressed.get()),
            },
            target_limit: self.target_limit,
            keep_dropped: self.keep_dropped_targets,
            static_groups: self.static_configs.iter().map(group).collect(),
            file_sd: self.file_sd_configs.clone(),
        })
    }
}

fn group(config: &super::settings::StaticConfig) -> Group {
    let labels: &BTreeMap<String, String> = &config.labels;
    Group {
        addresses: config.targets.iter().map(|t| t.as_str().into()).collect(),
        labels: labels.iter().collect(),
    }
}

#[cfg(test)]
mod tests;
