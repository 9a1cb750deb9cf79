-- Generated from schemas/tables.py by `make docs`; schema version 9.
-- `sssl bigquery --output gs://... --dataset sssl` creates these tables and views, and fills them
-- with what is published, but for segments, features and embeddings, which are large. To load one
-- of those, take its files from
-- `select path from files where table_name = 'segments'` in `sssl sql`:
--   bq load --replace --source_format=PARQUET --parquet_enable_list_inference=true \
--     sssl.segments FILE,FILE,...
-- Tensors (features.log_mel, embeddings.embedding) are bytes here, too: docs/tables.md says how
-- NumPy reads them.

CREATE TABLE IF NOT EXISTS sssl.catalog (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id: unique, chosen by the user."),
  `uri` STRING NOT NULL OPTIONS (description = "Where the audio lies: a local path or any fsspec URL."),
  `label` STRING OPTIONS (description = "The emotion label of the whole track."),
  `split` STRING OPTIONS (description = "`train`, or `test` for held-out tracks; null without a label."),
  `group_id` STRING NOT NULL OPTIONS (description = "Artist or album: tracks of a group are in the same split and fold. By default the track's own id."),
  `fold` INT64 NOT NULL OPTIONS (description = "Cross-fitting fold. Member `fold` of a model has never trained on this track and is the one that scores it."),
  `expected_s` FLOAT64 OPTIONS (description = "Duration according to the catalog. [s]"),
  `locked` BOOL NOT NULL OPTIONS (description = "Whether a human vouches for the label in every segment, so that none is relabelled."),
  `part` INT64 NOT NULL OPTIONS (description = "Part (work unit) that holds the track in every table."),
  `source_fingerprint` STRING OPTIONS (description = "Identity of the file's content according to its storage: the etag, or size and mtime. `missing` if there is no file. Null if the storage has neither: then the file counts as changed in every run."),
  `corrections` ARRAY<STRUCT<`start_s` FLOAT64, `end_s` FLOAT64, `label` STRING>> OPTIONS (description = "Labels that listeners gave to passages, the newest last. One without a start and an end is for the whole track: it is the track's `label`, and the track is `locked`. Null without corrections, or if schema version 6 or earlier wrote the catalog."),
  `valence` FLOAT64 OPTIONS (description = "How pleasant listeners found the track: from -1 (unpleasant) to 1 (pleasant), 0 is neither. Null where the catalog has no number, with `--task classes`, or where schema version 7 or earlier wrote the catalog."),
  `arousal` FLOAT64 OPTIONS (description = "How excited listeners found the track: from -1 (calm) to 1 (excited). Null in the same cases as `valence`."),
  PRIMARY KEY (`track_id`) NOT ENFORCED
)
OPTIONS (description = "One row per track: what the user's catalog says, and the track's part, split and fold. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.ledger (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `status` STRING NOT NULL OPTIONS (description = "`ok`, `partial` (it has segments, but also a defect) or `failed` (no segments)."),
  `reason` STRING OPTIONS (description = "Stable code for what went wrong (docs/reasons.md); null if nothing did."),
  `retryable` BOOL NOT NULL OPTIONS (description = "Whether the same file may succeed later."),
  `detail` STRING OPTIONS (description = "What exactly happened, in words."),
  `expected_s` FLOAT64 OPTIONS (description = "Duration according to the catalog, or else to the container. [s]"),
  `decoded_s` FLOAT64 NOT NULL OPTIONS (description = "Duration that came out of the decoder. [s]"),
  `decoder` STRING OPTIONS (description = "Decoder that was used, with its version."),
  `codec` STRING OPTIONS (description = "Codec of the audio stream."),
  `sample_rate_hz` INT64 OPTIONS (description = "Sample rate of the file. [Hz]"),
  `channels` INT64 OPTIONS (description = "Channels of the file."),
  `segments` INT64 NOT NULL OPTIONS (description = "Rows of the track in `segments`."),
  `part` INT64 NOT NULL OPTIONS (description = "Part that holds the track."),
  `source_fingerprint` STRING OPTIONS (description = "Identity of the file's content, as in `catalog`."),
  PRIMARY KEY (`track_id`) NOT ENFORCED
)
OPTIONS (description = "One row for every track of the catalog, whatever happened to it. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.segments (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `start_s` FLOAT64 NOT NULL OPTIONS (description = "Where the segment starts. [s]"),
  `level_db` FLOAT64 NOT NULL OPTIONS (description = "RMS level of the segment's mono waveform. [dB re full scale]"),
  `band_level_db` ARRAY<FLOAT64> OPTIONS (description = "Mean of the log-mel over the segment's frames, by mel band; the values have half precision. [dB re full scale]"),
  `sound_db` ARRAY<FLOAT64> OPTIONS (description = "Sound by group of neighbouring mel bands, at most 16 groups: first their mean levels, then their standard deviations over the frames, then their mean absolute steps from frame to frame. Null if schema version 1 wrote the segment; it can then be computed from the log-mel. [dB]"),
  `sound` ARRAY<FLOAT64> OPTIONS (description = "Timbre, tonality, rhythm, dynamics and texture as numbers. docs/sound.md defines them; the file's metadata lists their names in order (`sssl.sound`). Null if the folder is older than this column or was made with `--sound-version 0`."),
  PRIMARY KEY (`track_id`, `segment_index`) NOT ENFORCED
)
OPTIONS (description = "One row per segment of a usable track: where it starts and how it sounds. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.features (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `log_mel` BYTES NOT NULL OPTIONS (description = "Log-mel power spectrogram [mels, frames], a byte per value, one mel band after the other: `offset` + `scale` * byte, -100 + 9/16 * byte, is the level in dB re full scale. The file's metadata has type, shape, scale, offset and the parameters of the transform as JSON under `sssl.log_mel`. A folder that schema version 8 or earlier began has, until its cut changes, levels in dB in little-endian half precision, without scale and offset."),
  PRIMARY KEY (`track_id`, `segment_index`) NOT ENFORCED
)
OPTIONS (description = "One row per segment, in the order of `segments`: its log-mel spectrogram. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.embeddings (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `embedding` BYTES OPTIONS (description = "Embedding [D] in little-endian half precision; null if there is a `reason`. The file's metadata has type, shape and the front-end as JSON under `sssl.embedding`."),
  `reason` STRING OPTIONS (description = "Why there is no embedding: `non-finite` if the network's was not finite, otherwise the code for what has since gone wrong with the file (docs/reasons.md)."),
  PRIMARY KEY (`track_id`, `segment_index`) NOT ENFORCED
)
OPTIONS (description = "One row per segment, in the order of `segments`: its embedding by a pretrained network. Written by `embed`, if there is a front-end (docs/embeddings.md).");

CREATE TABLE IF NOT EXISTS sssl.scores (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `round` INT64 NOT NULL OPTIONS (description = "Round of self-learning; 0 is the warm-up on inherited labels."),
  `probabilities` ARRAY<FLOAT64> OPTIONS (description = "Posterior by class, from the member that did not train on the track; null if it is not finite."),
  `loss` FLOAT64 OPTIONS (description = "Negative log posterior of the track's label; null without a label or a posterior. [nat]"),
  `reason` STRING OPTIONS (description = "Why there is no posterior: `non-finite` if the model's was not finite, `part-failed` if three workers died while they scored the track's part."),
  `model_id` STRING NOT NULL OPTIONS (description = "Digest of the model's weights."),
  PRIMARY KEY (`track_id`, `segment_index`, `round`) NOT ENFORCED
)
OPTIONS (description = "One row per segment and round: the posterior of the round's model. Written by `score`.");

CREATE TABLE IF NOT EXISTS sssl.labels (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `round` INT64 NOT NULL OPTIONS (description = "Round of self-learning; 0 is the warm-up on inherited labels."),
  `inherited_label` STRING OPTIONS (description = "The track's label."),
  `loss` FLOAT64 OPTIONS (description = "Loss by which the split was made: the calibrated loss of the last accepted round, combined with a classifier on `segments.sound`, `consistency` and the neighbouring segments. [nat]"),
  `consistency` FLOAT64 OPTIONS (description = "Log likelihood ratio for the segment sounding like the rest of its track: low where it does not. [nat]"),
  `clean_probability` FLOAT64 OPTIONS (description = "Probability that the inherited label is right: the posterior of the mixture's low-loss component."),
  `partition` STRING NOT NULL OPTIONS (description = "`confident`, `noisy`, `locked` or `unlabelled`."),
  `label` STRING OPTIONS (description = "Most probable class of `target`; null if unlabelled."),
  `target` ARRAY<FLOAT64> OPTIONS (description = "Soft label, by class, that the network learns; null if unlabelled."),
  `weight` FLOAT64 NOT NULL OPTIONS (description = "Weight in training; 0 for held-out, unlabelled and set-aside segments."),
  `reason` STRING NOT NULL OPTIONS (description = "Rule that decided: `inherited`, `low-loss`, `high-loss`, `no-split`, `cap`, `locked`, `corrected` (by a listener, in the corrections), `no-label`, `no-score`."),
  PRIMARY KEY (`track_id`, `segment_index`, `round`) NOT ENFORCED
)
OPTIONS (description = "One row per segment and round: its label, its weight in training, and why. Written by `relabel`.");

CREATE TABLE IF NOT EXISTS sssl.rounds (
  `round` INT64 NOT NULL OPTIONS (description = "Round of self-learning; 0 is the warm-up on inherited labels."),
  `accepted` BOOL NOT NULL OPTIONS (description = "Whether the round's model alone labels from then on: `verdict` is `accepted`."),
  `reason` STRING NOT NULL OPTIONS (description = "Why the verdict is what it is, in numbers."),
  `parent_round` INT64 OPTIONS (description = "Accepted round whose scores were split; null for round 0."),
  `model_id` STRING NOT NULL OPTIONS (description = "Digest of the model's weights."),
  `components` INT64 OPTIONS (description = "Components of the loss mixture: 1 means nothing to split."),
  `mixture_class` ARRAY<STRING> OPTIONS (description = "Class of each fitted mixture, `*` for all classes. The lists of the next five columns are in this order."),
  `confident_mean` ARRAY<FLOAT64> OPTIONS (description = "Mean loss of the confident component, by mixture. [nat]"),
  `confident_std` ARRAY<FLOAT64> OPTIONS (description = "Standard deviation of the confident component, by mixture; of the wider Gaussian if it has two. [nat]"),
  `noisy_mean` ARRAY<FLOAT64> OPTIONS (description = "Mean loss of the noisy component, by mixture. [nat]"),
  `noisy_std` ARRAY<FLOAT64> OPTIONS (description = "Standard deviation of the noisy component, by mixture. [nat]"),
  `noisy_share` ARRAY<FLOAT64> OPTIONS (description = "Weight of the noisy component, by mixture."),
  `confident` INT64 NOT NULL OPTIONS (description = "Segments of train tracks that are confident."),
  `noisy` INT64 NOT NULL OPTIONS (description = "Segments of train tracks that are noisy."),
  `locked` INT64 NOT NULL OPTIONS (description = "Segments whose label is locked."),
  `unlabelled` INT64 NOT NULL OPTIONS (description = "Segments of tracks without a label."),
  `relabelled` INT64 NOT NULL OPTIONS (description = "Segments of train tracks whose label differs from the inherited one."),
  `heldout_tracks` INT64 NOT NULL OPTIONS (description = "Held-out tracks from which the held-out metrics are computed."),
  `heldout_accuracy` FLOAT64 OPTIONS (description = "Share of held-out tracks whose mean posterior peaks at their label. The published labels (`songs.label`) come from the song classifier, so their accuracy may be higher or lower."),
  `heldout_macro_f1` FLOAT64 OPTIONS (description = "Mean F1 over classes on held-out tracks."),
  `heldout_loss` FLOAT64 OPTIONS (description = "Mean over held-out tracks of the negative log of the mean posterior at the label. [nat]"),
  `heldout_groups` INT64 OPTIONS (description = "Groups of held-out tracks from which the following changes are computed; these are for information and decide nothing. Null if there are none."),
  `heldout_accuracy_change` FLOAT64 OPTIONS (description = "`heldout_accuracy` minus the parent round's, on the same tracks; a track without a posterior counts as wrong."),
  `heldout_accuracy_change_low` FLOAT64 OPTIONS (description = "Lower end of its confidence interval (bootstrap by group, 95 % unless `interval_level` says otherwise); null with fewer than six groups."),
  `heldout_accuracy_change_high` FLOAT64 OPTIONS (description = "Upper end of that interval."),
  `heldout_loss_change` FLOAT64 OPTIONS (description = "`heldout_loss` minus the parent round's, on the same tracks: below 0 is better. [nat]"),
  `heldout_loss_change_low` FLOAT64 OPTIONS (description = "Lower end of its confidence interval (bootstrap by group, 95 % unless `interval_level` says otherwise). [nat]"),
  `heldout_loss_change_high` FLOAT64 OPTIONS (description = "Upper end of that interval. [nat]"),
  `train_accuracy` FLOAT64 OPTIONS (description = "Share of train tracks whose mean posterior peaks at their label, each scored by the member that did not train on it (cross-fitted)."),
  `train_macro_f1` FLOAT64 OPTIONS (description = "Mean F1 over classes on train tracks, cross-fitted."),
  `verdict` STRING OPTIONS (description = "`accepted`: the round's model labels from then on. `kept`: its parent's does. `undecided`: both do, by the mean of their posteriors. Null if schema version 2 or earlier judged the round."),
  `judged_tracks` INT64 OPTIONS (description = "Labelled tracks on which the verdict is based: held-out ones and, if models are cross-fitted, train tracks, each scored by the member that left it out. Null if nothing was compared."),
  `judged_groups` INT64 OPTIONS (description = "Groups of these tracks; each counts once."),
  `log_loss_change` FLOAT64 OPTIONS (description = "Log loss of these tracks minus the parent round's: below 0 is better. It is a mean over group means; each track's is that of its mean posterior, at the temperature that is most likely for the model, and its change is clipped at 2 nats. [nat]"),
  `log_loss_change_error` FLOAT64 OPTIONS (description = "Standard error of `log_loss_change`, by jackknife over groups. [nat]"),
  `log_loss_change_z` FLOAT64 OPTIONS (description = "`log_loss_change` in standard errors: below -`decisive_z` (1 by default) the round is accepted, above it the parent is kept."),
  `accuracy_change` FLOAT64 OPTIONS (description = "Share of these tracks whose mean posterior peaks at their label, minus the parent round's; also a mean over groups. From 60 tracks on, a fall by more than two standard errors keeps the parent."),
  `accuracy_change_error` FLOAT64 OPTIONS (description = "Standard error of `accuracy_change`."),
  PRIMARY KEY (`round`) NOT ENFORCED
)
OPTIONS (description = "One row per round: what was split and learned, and whether it was accepted. Written by `judge`.");

CREATE TABLE IF NOT EXISTS sssl.songs (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `label` STRING NOT NULL OPTIONS (description = "The track's emotion: the most probable one, or the one that a human locked."),
  `confidence` FLOAT64 NOT NULL OPTIONS (description = "Probability of `label`, calibrated if models are cross-fitted; 1 if a human locked the label."),
  `probabilities` ARRAY<FLOAT64> OPTIONS (description = "Probability by class, calibrated if models are cross-fitted."),
  `abstained` BOOL NOT NULL OPTIONS (description = "Whether `confidence` is below the threshold (`summary.threshold` of the manifest), or the track is `unlike` anything labelled: look before you publish."),
  `segments` INT64 NOT NULL OPTIONS (description = "Scored segments from which the label is computed."),
  `timeline` ARRAY<STRUCT<`start_s` FLOAT64, `end_s` FLOAT64, `label` STRING, `confidence` FLOAT64>> OPTIONS (description = "The track's emotions in time order. An entry is a run of segments whose smoothed posterior peaks at the same class. Smoothing takes the mean over a segment and its neighbours, `--smooth-segments` in all (3 by default), fewer at the track's ends. An entry lasts until the next segment starts, the last entry until the track ends (without `config.timeline_to_end` in the manifest: until the track's last segment ends). Its confidence is the smoothed posterior of its class, averaged over the run; unlike the song's confidence it is not calibrated. Posteriors are those of `scores`, mixed with those of the classifier on `segments.sound` where the last split went by one."),
  `round` INT64 NOT NULL OPTIONS (description = "Round whose scores were used; if its verdict is `undecided`, they were averaged with its parent's."),
  `model_id` STRING NOT NULL OPTIONS (description = "Digest of the model's weights; if two models label, both digests, joined by +."),
  `timeline_label` STRING OPTIONS (description = "Emotion that `timeline` shows for the longest time. It may differ from `label`, which also depends on the sound of the track and on how sure the posteriors are. Null if schema version 2 or earlier made the song."),
  `familiarity` FLOAT64 OPTIONS (description = "How much the track sounds like the labelled track that it resembles most, from 0 to 1. Null if the label does not depend on the sound, or if schema version 3 or earlier made the song."),
  `unlike` BOOL OPTIONS (description = "Whether the track sounds unlike every labelled track: `familiarity` is below `summary.unlike_below` of the manifest. Its confidence then means little, so the track abstains. Null if schema version 3 or earlier made the song."),
  `label_source` STRING OPTIONS (description = "`human` if the catalog locks the track's label: then `label` is that one, its confidence is 1, and the track never abstains; `probabilities` still say what the models predict. Otherwise `model`. Null if schema version 6 or earlier made the song."),
  `valence` FLOAT64 OPTIONS (description = "How pleasant the track is, from -1 (unpleasant) to 1 (pleasant), by a regression on the tracks whose valence is in the catalog. Null if the catalog has too few of them, with `--task classes`, or where schema version 7 or earlier made the song."),
  `valence_low` FLOAT64 OPTIONS (description = "Lower end of the interval that holds the number that listeners would give for nine of ten tracks (`summary.numbers` of the manifest has the share of held-out tracks)."),
  `valence_high` FLOAT64 OPTIONS (description = "Upper end of that interval."),
  `arousal` FLOAT64 OPTIONS (description = "How excited the track is, from -1 (calm) to 1 (excited), by the same method."),
  `arousal_low` FLOAT64 OPTIONS (description = "Lower end of the interval that holds the number that listeners would give for nine of ten tracks (`summary.numbers` of the manifest has the share of held-out tracks)."),
  `arousal_high` FLOAT64 OPTIONS (description = "Upper end of that interval."),
  `valence_arousal_timeline` ARRAY<STRUCT<`start_s` FLOAT64, `end_s` FLOAT64, `valence` FLOAT64, `arousal` FLOAT64>> OPTIONS (description = "Valence and arousal of each scored segment in time order, by the same regression, applied to the sound and the posterior of the segment, both averaged with its neighbours as in `timeline`. They are rougher than the track's, and the track's intervals do not hold for them."),
  PRIMARY KEY (`track_id`) NOT ENFORCED
)
OPTIONS (description = "One row per track that has scored segments: its emotion. Written by `songs`.");

CREATE TABLE IF NOT EXISTS sssl.manifests (
  `table_name` STRING NOT NULL OPTIONS (description = "Name of the table."),
  `round` INT64 OPTIONS (description = "Round of self-learning; null for tables that have none."),
  `generation` STRING NOT NULL OPTIONS (description = "Name of the generation: a digest of what made it."),
  `rows` INT64 NOT NULL OPTIONS (description = "Rows in all files."),
  `files` INT64 NOT NULL OPTIONS (description = "Number of files that readers get."),
  `bytes` INT64 NOT NULL OPTIONS (description = "Size of all files, including those of parts, which only stages read. [bytes]"),
  `digest` STRING NOT NULL OPTIONS (description = "Digest of the content: SHA-256 over the SHA-256 of each part's file."),
  `stage` STRING NOT NULL OPTIONS (description = "Stage that made it."),
  `model_id` STRING OPTIONS (description = "Digest of the weights, in rows of `models`; null elsewhere."),
  `folder` STRING NOT NULL OPTIONS (description = "Where its files lie."),
  `created_at` TIMESTAMP NOT NULL OPTIONS (description = "When its rows were made, in UTC; a takedown does not change it."),
  `cpu_s` FLOAT64 OPTIONS (description = "CPU time of the processes that made it, without the start of the program. Tables that were made together share the number. If tracks were reused, it is that of the last run. Null if it was not measured. [s]"),
  `parents` ARRAY<STRING> OPTIONS (description = "What it was made from, as `table/generation`."),
  `config` STRING NOT NULL OPTIONS (description = "Settings of the stage as JSON."),
  `code_version` STRING NOT NULL OPTIONS (description = "Version of the program."),
  `schema_version` INT64 NOT NULL OPTIONS (description = "Schema version of its files."),
  PRIMARY KEY (`table_name`, `round`) NOT ENFORCED
)
OPTIONS (description = "One row per published generation: what it consists of, what made it and from what. Read from its `_manifest.json`.");

CREATE TABLE IF NOT EXISTS sssl.classes (
  `position` INT64 NOT NULL OPTIONS (description = "Place in `probabilities` and `target`, from 1 as in SQL."),
  `name` STRING NOT NULL OPTIONS (description = "Name of the class, as in labels."),
  `valence` FLOAT64 OPTIONS (description = "From unpleasant (-1) to pleasant (1) in Russell's plane: 1 for Q1, Q4 and positive. Null for classes whose place in the plane is not known."),
  `arousal` FLOAT64 OPTIONS (description = "From calm (-1) to excited (1) in the same plane: 1 for Q1, Q2 and high."),
  PRIMARY KEY (`position`) NOT ENFORCED
)
OPTIONS (description = "One row per class, in the order of all lists that have a number per class.");

CREATE OR REPLACE VIEW sssl.song_labels
OPTIONS (description = "One row per song: its label beside that of the catalog, in columns with different names.")
AS SELECT track_id, c.group_id, c.split, c.label AS catalog_label, s.label AS song_label,
  c.label = s.label AS agrees, s.confidence, s.abstained
FROM sssl.songs AS s JOIN sssl.catalog AS c USING (track_id);

CREATE OR REPLACE VIEW sssl.song_probabilities
OPTIONS (description = "One row per song and class.")
AS SELECT track_id, c.name AS class_name, probabilities[ORDINAL(c.position)] AS probability
FROM sssl.songs CROSS JOIN sssl.classes AS c;

CREATE OR REPLACE VIEW sssl.models
OPTIONS (description = "One row per published model. If two models are in use, `songs.model_id` joins their ids with +.")
AS SELECT m.model_id, m.round, m.generation,
  JSON_VALUE(m.config, '$.model') AS architecture, r.verdict, m.bytes, m.created_at, m.code_version
FROM sssl.manifests AS m LEFT JOIN sssl.rounds AS r ON r.round = m.round
WHERE m.table_name = 'models';

CREATE OR REPLACE VIEW sssl.accepted_labels
OPTIONS (description = "labels of the last accepted round: what its model was trained on")
AS SELECT * FROM sssl.labels WHERE round = (SELECT MAX(round) FROM sssl.rounds WHERE accepted);

CREATE OR REPLACE VIEW sssl.accepted_scores
OPTIONS (description = "what songs are made from: scores of the last accepted round, or the mean of its and those of the round after it, where that one's verdict is undecided")
AS WITH used AS (
  SELECT MAX(round) AS round FROM sssl.rounds
  WHERE accepted
    OR (verdict = 'undecided'
      AND round > (SELECT MAX(round) FROM sssl.rounds WHERE accepted))
), before AS (
  SELECT parent_round AS round FROM sssl.rounds JOIN used USING (round) WHERE NOT accepted
)
SELECT b.* FROM sssl.scores AS b JOIN used USING (round)
WHERE NOT EXISTS (SELECT 1 FROM before)
UNION ALL
SELECT b.* REPLACE (
  CASE WHEN a.reason IS NOT NULL THEN b.probabilities WHEN b.reason IS NOT NULL THEN a.probabilities
    ELSE ARRAY(SELECT (p + q) / 2 FROM UNNEST(a.probabilities) AS p WITH OFFSET AS i
      JOIN UNNEST(b.probabilities) AS q WITH OFFSET AS j ON i = j ORDER BY i) END AS probabilities,
  COALESCE(-LN((EXP(-a.loss) + EXP(-b.loss)) / 2), a.loss, b.loss) AS loss,
  IF(a.reason IS NULL, NULL, b.reason) AS reason,
  CONCAT(a.model_id, '+', b.model_id) AS model_id
)
FROM sssl.scores AS b JOIN used USING (round)
JOIN sssl.scores AS a ON a.track_id = b.track_id AND a.segment_index = b.segment_index
JOIN before ON a.round = before.round;
