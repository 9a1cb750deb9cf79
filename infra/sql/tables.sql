-- Generated from schemas/tables.py by `make docs`; schema version 8.
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
  `split` STRING OPTIONS (description = "`train`, or `test` for held-out tracks; null where there is no label."),
  `group_id` STRING NOT NULL OPTIONS (description = "Tracks of a group (artist, album) share split and fold; the track's own id by default."),
  `fold` INT64 NOT NULL OPTIONS (description = "Cross-fitting fold: member `fold` of a model never trained on this track and is the one that scores it."),
  `expected_s` FLOAT64 OPTIONS (description = "Duration that the catalog promises. [s]"),
  `locked` BOOL NOT NULL OPTIONS (description = "A human vouches for the label in every segment: never relabelled."),
  `part` INT64 NOT NULL OPTIONS (description = "Part (work unit) that holds the track in every table."),
  `source_fingerprint` STRING OPTIONS (description = "Identity of the file's content as its storage tells it (etag, or size and mtime); `missing` without a file, null where the storage does not tell: such a file counts as changed at every run."),
  `corrections` ARRAY<STRUCT<`start_s` FLOAT64, `end_s` FLOAT64, `label` STRING>> OPTIONS (description = "What a listener said of passages, the newest last; without a start and an end, of the whole track, whose `label` it is then, and which is `locked`. Null where nobody said anything, or schema version 6 or earlier wrote the catalog."),
  `valence` FLOAT64 OPTIONS (description = "How pleasant listeners found the track, from -1 to 1; 0 is neither. Null where nobody said so, with `--task classes`, or where schema version 7 or earlier wrote the catalog."),
  `arousal` FLOAT64 OPTIONS (description = "How excited, from -1 (calm) to 1; null likewise."),
  PRIMARY KEY (`track_id`) NOT ENFORCED
)
OPTIONS (description = "One row a track: what the user's catalog says, and its part, split and fold. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.ledger (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `status` STRING NOT NULL OPTIONS (description = "`ok`, `partial` (segments, but with a defect) or `failed` (no segments)."),
  `reason` STRING OPTIONS (description = "Stable code of what went wrong (docs/reasons.md); null where all is well."),
  `retryable` BOOL NOT NULL OPTIONS (description = "Whether the same file may succeed later."),
  `detail` STRING OPTIONS (description = "What exactly happened, for a person."),
  `expected_s` FLOAT64 OPTIONS (description = "Duration by the catalog, else by the container. [s]"),
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
OPTIONS (description = "One row a catalog track, always: what became of it. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.segments (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `start_s` FLOAT64 NOT NULL OPTIONS (description = "Where the segment starts. [s]"),
  `level_db` FLOAT64 NOT NULL OPTIONS (description = "RMS level of the segment's mono waveform. [dB re full scale]"),
  `band_level_db` ARRAY<FLOAT64> OPTIONS (description = "Mean of the log-mel over its frames, by mel band; the reals of half precision. [dB re full scale]"),
  `sound_db` ARRAY<FLOAT64> OPTIONS (description = "Sound by group of neighbouring mel bands, at most 16: their mean levels, then their standard deviations over the frames, then their mean steps from frame to frame; null where schema version 1 wrote the segment, whose log-mel then tells it. [dB]"),
  `sound` ARRAY<FLOAT64> OPTIONS (description = "Timbre, tonality, rhythm, dynamics and texture as numbers; docs/sound.md defines them, and the file's metadata names them in their order (`sssl.sound`). Null where the folder is from before there was this column, or was made with `--sound-version 0`."),
  PRIMARY KEY (`track_id`, `segment_index`) NOT ENFORCED
)
OPTIONS (description = "One row a segment of a usable track: where it lies and how it sounds. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.features (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `log_mel` BYTES NOT NULL OPTIONS (description = "Log-mel power spectrogram [mels, frames] of half-precision reals, little-endian, row by row. Type, shape and the parameters of the transform are JSON in the file's metadata, as `sssl.log_mel`. [dB re full scale]"),
  PRIMARY KEY (`track_id`, `segment_index`) NOT ENFORCED
)
OPTIONS (description = "One row a segment, in the order of `segments`: its log-mel spectrogram. Written by `segment`.");

CREATE TABLE IF NOT EXISTS sssl.embeddings (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `embedding` BYTES OPTIONS (description = "Embedding [D] of half-precision reals, little-endian; null where there is a `reason`. Type, shape and the front-end are JSON in the file's metadata, as `sssl.embedding`."),
  `reason` STRING OPTIONS (description = "Why there is no embedding: `non-finite` where the network gave none, or the code of what is wrong with the file by now (docs/reasons.md)."),
  PRIMARY KEY (`track_id`, `segment_index`) NOT ENFORCED
)
OPTIONS (description = "One row a segment, in the order of `segments`: what a pretrained network makes of its samples. Written by `embed`, where there is a front-end (docs/embeddings.md).");

CREATE TABLE IF NOT EXISTS sssl.scores (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `round` INT64 NOT NULL OPTIONS (description = "Round of self-learning; 0 is the warm-up on inherited labels."),
  `probabilities` ARRAY<FLOAT64> OPTIONS (description = "Posterior by class, from the member that did not train on the track; null where it is not finite."),
  `loss` FLOAT64 OPTIONS (description = "Negative log posterior of the track's label; null without label or posterior. [nat]"),
  `reason` STRING OPTIONS (description = "`non-finite` where the model gave no usable posterior, `part-failed` where three workers ended while they scored the track's part."),
  `model_id` STRING NOT NULL OPTIONS (description = "Digest of the model's weights."),
  PRIMARY KEY (`track_id`, `segment_index`, `round`) NOT ENFORCED
)
OPTIONS (description = "One row a segment and round: the posterior of the round's model. Written by `score`.");

CREATE TABLE IF NOT EXISTS sssl.labels (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `segment_index` INT64 NOT NULL OPTIONS (description = "0-based position of the segment in its track."),
  `round` INT64 NOT NULL OPTIONS (description = "Round of self-learning; 0 is the warm-up on inherited labels."),
  `inherited_label` STRING OPTIONS (description = "The track's label."),
  `loss` FLOAT64 OPTIONS (description = "Loss the split was made on: that of the last accepted round with `consistency` and neighbours, calibrated. [nat]"),
  `consistency` FLOAT64 OPTIONS (description = "Log likelihood ratio that the segment sounds like the rest of its track; low where it does not belong. [nat]"),
  `clean_probability` FLOAT64 OPTIONS (description = "Posterior of the mixture's low-loss component: how likely the inherited label is right."),
  `partition` STRING NOT NULL OPTIONS (description = "`confident`, `noisy`, `locked` or `unlabelled`."),
  `label` STRING OPTIONS (description = "Most probable class of `target`; null where unlabelled."),
  `target` ARRAY<FLOAT64> OPTIONS (description = "Soft label by class that training learns; null where unlabelled."),
  `weight` FLOAT64 NOT NULL OPTIONS (description = "Weight in training; 0 for held-out, unlabelled and set-aside segments."),
  `reason` STRING NOT NULL OPTIONS (description = "Rule that decided: `inherited`, `low-loss`, `high-loss`, `no-split`, `cap`, `locked`, `corrected` (a listener said so in the corrections), `no-label`, `no-score`."),
  PRIMARY KEY (`track_id`, `segment_index`, `round`) NOT ENFORCED
)
OPTIONS (description = "One row a segment and round: its label, its weight in the training, and why. Written by `relabel`.");

CREATE TABLE IF NOT EXISTS sssl.rounds (
  `round` INT64 NOT NULL OPTIONS (description = "Round of self-learning; 0 is the warm-up on inherited labels."),
  `accepted` BOOL NOT NULL OPTIONS (description = "Whether the round's model labels alone from then on: `verdict` is `accepted`."),
  `reason` STRING NOT NULL OPTIONS (description = "Why, by what the verdict goes by."),
  `parent_round` INT64 OPTIONS (description = "Accepted round whose scores were split; null for round 0."),
  `model_id` STRING NOT NULL OPTIONS (description = "Digest of the model's weights."),
  `components` INT64 OPTIONS (description = "Components of the loss mixture: 1 means nothing to split."),
  `mixture_class` ARRAY<STRING> OPTIONS (description = "Class of each fitted mixture, `*` for all classes; order of the next four columns."),
  `confident_mean` ARRAY<FLOAT64> OPTIONS (description = "Mean loss of the confident component, by mixture. [nat]"),
  `confident_std` ARRAY<FLOAT64> OPTIONS (description = "Standard deviation of the confident component (of its wider Gaussian, if two), by mixture. [nat]"),
  `noisy_mean` ARRAY<FLOAT64> OPTIONS (description = "Mean loss of the noisy component, by mixture. [nat]"),
  `noisy_std` ARRAY<FLOAT64> OPTIONS (description = "Standard deviation of the noisy component, by mixture. [nat]"),
  `noisy_share` ARRAY<FLOAT64> OPTIONS (description = "Weight of the noisy component, by mixture."),
  `confident` INT64 NOT NULL OPTIONS (description = "Segments of train tracks that are confident."),
  `noisy` INT64 NOT NULL OPTIONS (description = "Segments of train tracks that are noisy."),
  `locked` INT64 NOT NULL OPTIONS (description = "Segments whose label is locked."),
  `unlabelled` INT64 NOT NULL OPTIONS (description = "Segments of tracks without a label."),
  `relabelled` INT64 NOT NULL OPTIONS (description = "Segments of train tracks whose label differs from the inherited one."),
  `heldout_tracks` INT64 NOT NULL OPTIONS (description = "Held-out tracks behind the held-out metrics."),
  `heldout_accuracy` FLOAT64 OPTIONS (description = "Share of held-out tracks whose mean posterior peaks at their label. What is published is `songs.label`, which the song classifier makes and which may be right more or less often."),
  `heldout_macro_f1` FLOAT64 OPTIONS (description = "Mean F1 over classes on held-out tracks."),
  `heldout_loss` FLOAT64 OPTIONS (description = "Mean negative log of the mean posterior at the label, held-out tracks. [nat]"),
  `heldout_groups` INT64 OPTIONS (description = "Groups of held-out tracks behind the changes that follow, which are told but decide nothing; null without any."),
  `heldout_accuracy_change` FLOAT64 OPTIONS (description = "`heldout_accuracy` less the parent round's, on the same tracks; one without a posterior counts as wrong."),
  `heldout_accuracy_change_low` FLOAT64 OPTIONS (description = "Lower end of its confidence interval (bootstrap by group, 95 % unless `interval_level` says otherwise); null with fewer than six groups."),
  `heldout_accuracy_change_high` FLOAT64 OPTIONS (description = "Upper end of that interval."),
  `heldout_loss_change` FLOAT64 OPTIONS (description = "Held-out loss less the parent round's, on the same tracks: below 0 is better. [nat]"),
  `heldout_loss_change_low` FLOAT64 OPTIONS (description = "Lower end of its confidence interval (bootstrap by group, 95 % unless `interval_level` says otherwise). [nat]"),
  `heldout_loss_change_high` FLOAT64 OPTIONS (description = "Upper end of that interval. [nat]"),
  `train_accuracy` FLOAT64 OPTIONS (description = "The same share on train tracks, each scored by a member that did not train on it (cross-fitted)."),
  `train_macro_f1` FLOAT64 OPTIONS (description = "Mean F1 over classes on train tracks, cross-fitted."),
  `verdict` STRING OPTIONS (description = "`accepted`: the round's model labels from then on. `kept`: its parent's does. `undecided`: both do, by the mean of their posteriors. Null where schema version 2 or earlier judged."),
  `judged_tracks` INT64 OPTIONS (description = "Labelled tracks that the verdict goes by: held-out ones and, where models are cross-fitted, train tracks, each scored by the member that left it out. Null where nothing was compared."),
  `judged_groups` INT64 OPTIONS (description = "Their groups, each of which counts once."),
  `log_loss_change` FLOAT64 OPTIONS (description = "Their log loss less the parent round's, a mean of group means: of mean posteriors at the temperature that is likeliest for each of the two models, a track's change clipped at 2 nats. Below 0 is better. [nat]"),
  `log_loss_change_error` FLOAT64 OPTIONS (description = "Its standard error, by jackknife over groups. [nat]"),
  `log_loss_change_z` FLOAT64 OPTIONS (description = "The change in standard errors: below -1 is accepted, above 1 kept."),
  `accuracy_change` FLOAT64 OPTIONS (description = "Share of these tracks whose mean posterior peaks at their label, less the parent round's, likewise by group. From 60 tracks on, a fall by more than two standard errors keeps the parent."),
  `accuracy_change_error` FLOAT64 OPTIONS (description = "Its standard error."),
  PRIMARY KEY (`round`) NOT ENFORCED
)
OPTIONS (description = "One row a round: what was split and learned, and whether it was accepted. Written by `judge`.");

CREATE TABLE IF NOT EXISTS sssl.songs (
  `track_id` STRING NOT NULL OPTIONS (description = "The track's id, as in the catalog."),
  `label` STRING NOT NULL OPTIONS (description = "The track's emotion: the most probable one, or the one that a human locked."),
  `confidence` FLOAT64 NOT NULL OPTIONS (description = "Probability of `label`, calibrated if models are cross-fitted; 1 where a human locked it."),
  `probabilities` ARRAY<FLOAT64> OPTIONS (description = "Probability by class, likewise."),
  `abstained` BOOL NOT NULL OPTIONS (description = "Whether `confidence` is below the threshold (`summary.threshold` of the manifest), or the track is `unlike` anything labelled: look before you publish."),
  `segments` INT64 NOT NULL OPTIONS (description = "Scored segments behind the label."),
  `timeline` ARRAY<STRUCT<`start_s` FLOAT64, `end_s` FLOAT64, `label` STRING, `confidence` FLOAT64>> OPTIONS (description = "The track's emotions in time order: runs of segments whose smoothed posterior peaks at the same class. It is smoothed by the mean over a segment and its neighbours, `--smooth-segments` in all (3 by default), fewer at the track's ends. An entry lasts until the next segment starts, the last one until the track ends (without `config.timeline_to_end` in the manifest: until its last segment does). Its confidence is the smoothed posterior of the class, averaged over the run; unlike the song's it is not calibrated."),
  `round` INT64 NOT NULL OPTIONS (description = "Round whose scores were used; where its verdict is `undecided`, the mean of its and its parent's."),
  `model_id` STRING NOT NULL OPTIONS (description = "Digest of the model's weights; of both, with a + between them, where two label."),
  `timeline_label` STRING OPTIONS (description = "Emotion that `timeline` shows for the longest time. It may differ from `label`, which goes by the sound of the track, too, and by how sure the posteriors are. Null where schema version 2 or earlier made the song."),
  `familiarity` FLOAT64 OPTIONS (description = "How much the track sounds like the labelled track that is most like it, from 0 to 1. Null where the sound does not count, or schema version 3 or earlier made the song."),
  `unlike` BOOL OPTIONS (description = "Whether the track sounds unlike anything labelled (`summary.unlike_below` of the manifest): whatever its confidence, nobody knows what it is worth, so the track abstains. Null where schema version 3 or earlier made the song."),
  `label_source` STRING OPTIONS (description = "`human` where the catalog locks the track's label: that is the `label`, its confidence is 1, and it never abstains; `probabilities` say what the models think all the same. `model` elsewhere. Null where schema version 6 or earlier made the song."),
  `valence` FLOAT64 OPTIONS (description = "How pleasant the track is, from -1 to 1, by a regression on the tracks whose valence the catalog has. Null where it has none, with `--task classes`, or where schema version 7 or earlier made the song."),
  `valence_low` FLOAT64 OPTIONS (description = "Lower end of the interval that holds the number that listeners would give for nine of ten tracks (`summary.numbers` of the manifest has the share of held-out tracks)."),
  `valence_high` FLOAT64 OPTIONS (description = "Upper end of that interval."),
  `arousal` FLOAT64 OPTIONS (description = "How excited, from -1 (calm) to 1, likewise."),
  `arousal_low` FLOAT64 OPTIONS (description = "Lower end of its interval."),
  `arousal_high` FLOAT64 OPTIONS (description = "Upper end of its interval."),
  `valence_arousal_timeline` ARRAY<STRUCT<`start_s` FLOAT64, `end_s` FLOAT64, `valence` FLOAT64, `arousal` FLOAT64>> OPTIONS (description = "Valence and arousal of each scored segment in time order, by the same regression on the sound and the posterior of the segment, both averaged with its neighbours as in `timeline`. They are rougher than the track's, whose interval does not hold for them."),
  PRIMARY KEY (`track_id`) NOT ENFORCED
)
OPTIONS (description = "One row a track with segments: its emotion. Written by `songs`.");

CREATE TABLE IF NOT EXISTS sssl.manifests (
  `table_name` STRING NOT NULL OPTIONS (description = "Name of the table."),
  `round` INT64 OPTIONS (description = "Round of self-learning; null for tables that have none."),
  `generation` STRING NOT NULL OPTIONS (description = "Name of the generation: a digest of what made it."),
  `rows` INT64 NOT NULL OPTIONS (description = "Rows in all files."),
  `files` INT64 NOT NULL OPTIONS (description = "Number of files that readers get."),
  `bytes` INT64 NOT NULL OPTIONS (description = "Size of all files, those of parts that only stages read included. [bytes]"),
  `digest` STRING NOT NULL OPTIONS (description = "SHA-256 of the full content of all files."),
  `stage` STRING NOT NULL OPTIONS (description = "Stage that made it."),
  `model_id` STRING OPTIONS (description = "Of `models`: digest of the weights."),
  `folder` STRING NOT NULL OPTIONS (description = "Where its files lie."),
  `created_at` TIMESTAMP NOT NULL OPTIONS (description = "When its rows were made, in UTC; a takedown keeps it."),
  `cpu_s` FLOAT64 OPTIONS (description = "CPU time of the processes that made it, without the program's own start; the tables of a job share it. Where tracks were reused, that of the last run. Null where it was not measured. [s]"),
  `parents` ARRAY<STRING> OPTIONS (description = "What it was made from, as `table/generation`."),
  `config` STRING NOT NULL OPTIONS (description = "Settings of the stage as JSON."),
  `code_version` STRING NOT NULL OPTIONS (description = "Version of the program."),
  `schema_version` INT64 NOT NULL OPTIONS (description = "Schema version of its files."),
  PRIMARY KEY (`table_name`, `round`) NOT ENFORCED
)
OPTIONS (description = "One row a published generation: what it consists of, what made it, from what. Read from its `_manifest.json`.");

CREATE TABLE IF NOT EXISTS sssl.classes (
  `position` INT64 NOT NULL OPTIONS (description = "1-based place in `probabilities` and `target`, as SQL counts."),
  `name` STRING NOT NULL OPTIONS (description = "Name, as in labels."),
  `valence` FLOAT64 OPTIONS (description = "From unpleasant (-1) to pleasant (1), by Russell's plane: 1 for Q1, Q4 and positive. Null for classes whose place in it is not known."),
  `arousal` FLOAT64 OPTIONS (description = "From calm (-1) to excited (1), likewise: 1 for Q1, Q2 and high."),
  PRIMARY KEY (`position`) NOT ENFORCED
)
OPTIONS (description = "One row per class, in the order that all lists with a number per class have.");

CREATE OR REPLACE VIEW sssl.song_labels
OPTIONS (description = "One row per song: its label beside the one that the catalog has, under names of their own.")
AS SELECT track_id, c.group_id, c.split, c.label AS catalog_label, s.label AS song_label,
  c.label = s.label AS agrees, s.confidence, s.abstained
FROM sssl.songs AS s JOIN sssl.catalog AS c USING (track_id);

CREATE OR REPLACE VIEW sssl.song_probabilities
OPTIONS (description = "One row per song and class.")
AS SELECT track_id, c.name AS class_name, probabilities[ORDINAL(c.position)] AS probability
FROM sssl.songs CROSS JOIN sssl.classes AS c;

CREATE OR REPLACE VIEW sssl.models
OPTIONS (description = "One row per published model; `songs.model_id` of two models in use joins their ids with +.")
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
