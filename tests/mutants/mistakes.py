"""The list: what is wrong, where, and which test must fail.

A mistake belongs here if nobody would see it in a run: the loss still falls, the number is a little
worse. `old` stands once in its file; the test is the smallest that notices.
"""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A change of one place of the source under which a test must fail."""

    what: str
    file: str
    """Relative to the checkout."""
    old: str
    new: str
    test: str
    """As pytest takes it, relative to tests."""


MASK, SAMPLE, LOADER = (f"videomae/data/{name}.py" for name in ("mask", "frame_sampling", "loader"))
STEP, SCHEDULE = "videomae/train/step.py", "videomae/train/schedule.py"
LOSS, MAE, LAYERS = (f"videomae/model/{name}.py" for name in ("loss", "mae", "layers"))
CURATE = {
    name: f"videomae/curate/{name}.py"
    for name in (
        "cuts",
        "measuring",
        "picture",
        "rules",
        "scores",
        "selection",
        "subsets",
        "transnet",
    )
}
METRICS = "videomae/evaluation/metrics.py"
THROUGHPUT = "videomae/train/throughput.py"
GOLDEN_MAE = "model/test_golden.py::test_mae_equals_the_reference"
GOLDEN_CLASSIFIER = "model/test_golden.py::test_classifier_equals_the_reference"
LOGGED = "train/test_logged_numbers.py::test_every_number_of_a_pretraining"

MISTAKES = (
    # What is masked
    Mistake(
        "a mask says what is visible",
        MASK,
        "rng.permutation(t * h * w) < num_masked",
        "rng.permutation(t * h * w) >= num_masked",
        "data/test_mask.py::test_the_published_numbers_of_tokens",
    ),
    Mistake(
        "the number of masked tokens is rounded to the nearest",
        MASK,
        "num_masked = int(ratio * t * h * w)",
        "num_masked = round(ratio * t * h * w)",
        "data/test_mask.py::test_true_is_masked_and_the_rest_of_a_tube_mask_is_visible",
    ),
    Mistake(
        "a tube is not the same in every time step",
        MASK,
        "ratio, rng).repeat(t)",
        "ratio, rng).repeat_interleave(t)",
        "data/test_mask.py::test_a_tube_is_the_same_in_every_time_step",
    ),
    Mistake(
        "the running cell runs backwards",
        MASK,
        "cell.roll(-1 - phase - step)",
        "cell.roll(-1 + phase + step)",
        "data/test_mask.py::test_the_running_cell_is_the_references",
    ),
    # Which frames and pixels
    Mistake(
        "the last start of a dense clip is never drawn",
        SAMPLE,
        "return max(1, num_frames - frames * stride + 1)",
        "return max(1, num_frames - frames * stride)",
        "data/test_frame_sampling.py::test_dense_starts_keep_frames_times_stride_inside_the_video",
    ),
    Mistake(
        "a window ends a frame early",
        SAMPLE,
        "np.linspace(start, start + window, num=frames)",
        "np.linspace(start, start + window - 1, num=frames)",
        "data/test_frame_sampling.py::test_windows_are_those_of_the_recipe",
    ),
    Mistake(
        "test views do not reach the end of the video",
        SAMPLE,
        "int(spare / (segments - 1) * k)",
        "int(spare / segments * k)",
        "data/test_frame_sampling.py::test_dense_views_are_those_of_the_recipe",
    ),
    Mistake(
        "a video that just fits counts as short",
        SAMPLE,
        "return num_frames < (frames - 1) * stride + 1",
        "return num_frames <= (frames - 1) * stride + 1",
        "data/test_frame_sampling.py::test_a_video_is_short_where_the_clip_does_not_fit",
    ),
    Mistake(
        "clips are mirrored where that changes their label",
        "videomae/data/augment.py",
        "hflip and rng.random() < 0.5",
        "rng.random() < 0.5",
        "data/test_dataset.py::test_views_are_mirrored_only_where_hflip_says_so",
    ),
    Mistake(
        "Something-Something, whose labels know left and right, is mirrored",
        "configs/data/ssv2.yaml",
        "hflip: false",
        "hflip: true",
        "config/test_configs.py::test_every_data_set_composes_and_mirrors_where_labels_allow",
    ),
    Mistake(
        "mixup weighs the partner as the label weighs the own",
        "videomae/data/mix.py",
        "own * clip + (1 - own) * other",
        "own * other + (1 - own) * clip",
        "data/test_mix.py::test_mixup_weighs_all_pixels_of_all_frames",
    ),
    Mistake(
        "the label's weight is the share that was drawn, not that of the box inside the frame",
        "videomae/data/mix.py",
        "1 - box[2] * box[3] / (height * width)",
        "share",
        "data/test_mix.py::test_shares_of_mixup_and_cutmix",
    ),
    Mistake(
        "pixels are not centred",
        "videomae/model/pixels.py",
        "torch.addcmul(-mean / std,",
        "torch.addcmul(0 * mean / std,",
        "model/test_pixels.py::test_frames_become_clips_of_mean_0_and_spread_1_over_imagenet",
    ),
    # The model and its loss
    Mistake(
        "targets are normalised by the biased variance",
        LOSS,
        "/ (tubelets.shape[2] - 1)",
        "/ tubelets.shape[2]",
        GOLDEN_MAE,
    ),
    Mistake(
        "the target's epsilon stands under the root",
        LOSS,
        "variance.sqrt() + 1e-6",
        "(variance + 1e-6).sqrt()",
        GOLDEN_MAE,
    ),
    Mistake(
        "visible tokens are scored too",
        MAE,
        "encoder_mask.gather(1, decoded).float()",
        "torch.ones_like(decoded).float()",
        "model/test_mae.py::test_a_token_that_is_visible_and_decoded_adds_nothing_to_the_loss",
    ),
    Mistake(
        "decoded tokens have no position",
        MAE,
        "self.mask_token + take(positions, decoded)",
        "self.mask_token + 0 * take(positions, decoded)",
        GOLDEN_MAE,
    ),
    Mistake(
        "queries and values exchange their biases",
        LAYERS,
        "[self.q_bias, torch.zeros_like(self.v_bias), self.v_bias]",
        "[self.v_bias, torch.zeros_like(self.v_bias), self.q_bias]",
        GOLDEN_CLASSIFIER,
    ),
    Mistake(
        "drop path does not keep the mean",
        LAYERS,
        "scale.div_(kept) if kept > 0 else scale",
        "scale",
        "model/test_layers.py::test_drop_path_draws_for_each_branch_of_each_example",
    ),
    Mistake(
        "the classifier looks at the first token",
        "videomae/model/classifier.py",
        "self.features(clip).mean(1)",
        "self.features(clip)[:, 0]",
        GOLDEN_CLASSIFIER,
    ),
    # A step
    Mistake(
        "the tokens of an unreadable video weigh like others",
        "videomae/train/objective.py",
        "scored = scored * batch.valid[:, None]",
        "scored = scored * 1.0",
        "train/test_step.py::test_an_unreadable_slot_takes_no_part",
    ),
    Mistake(
        "gradients of several processes are averaged once too often",
        STEP,
        "(processes.world / total.clamp(min=1))",
        "(1 / total.clamp(min=1))",
        "train/test_parallel.py::test_two_processes_pretrain_like_one",
    ),
    Mistake(
        "gradients are not clipped",
        STEP,
        "clip_grads_with_norm_(parameters, settings.clip_grad, grad_norm)",
        "clip_grads_with_norm_(parameters, 1e9, grad_norm)",
        "train/test_step.py::test_a_long_gradient_is_shortened_and_a_short_one_left",
    ),
    Mistake(
        "a gradient that is not finite is taken",
        STEP,
        "(~torch.isfinite(grad_norm) | (total == 0))",
        "(total == 0)",
        "train/test_step.py::test_a_step_that_is_not_finite_leaves_everything_as_it_was",
    ),
    Mistake(
        "every step drops the same paths",
        STEP,
        "[settings.seed, settings.step, number - 1, processes.rank]",
        "[settings.seed, number - 1, processes.rank]",
        "train/test_step.py::test_drop_path_follows_from_seed_step_micro_batch_and_rank",
    ),
    Mistake(
        "the rate is that of views, not of videos",
        SCHEDULE,
        "peak_lr=peak_lr(optim),",
        "peak_lr=peak_lr(optim) * repeats,",
        "train/test_schedule.py::test_rates_scale_with_videos_and_not_with_views",
    ),
    Mistake(
        "optim.lr goes with the batch",
        SCHEDULE,
        "        return optim.lr\n",
        "        return optim.lr * (optim.global_batch / LR_UNIT)\n",
        "train/test_schedule.py::test_lr_is_the_peak_whatever_the_batch_and_min_lr_stays_per_256_videos",
    ),
    Mistake(
        "a loss at chance counts as learning",
        "videomae/train/guards.py",
        "recent < (1 - NEAR) * level.loss",
        "recent < (1 + NEAR) * level.loss",
        "train/test_guards.py::test_which_losses_are_stuck",
    ),
    Mistake(
        "the first step has the rate of the second",
        SCHEDULE,
        "            step - 1,\n",
        "            step,\n",
        "train/test_schedule.py::test_the_first_step_is_number_1_and_the_peak_ends_the_warm_up",
    ),
    Mistake(
        "the warm-up does not reach the peak",
        "videomae/run/rates.py",
        "peak * step / max(1, warmup - 1)",
        "peak * step / max(1, warmup)",
        "train/test_schedule.py::test_warmup_cosine_at_known_steps",
    ),
    Mistake(
        "the first layers learn fastest",
        "videomae/train/optimizer.py",
        "layer_decay ** (depth + 1 - layer)",
        "layer_decay**layer",
        "train/test_optimizer.py::test_every_parameter_of_the_classifier_as_in_the_reference",
    ),
    Mistake(
        "biases are decayed",
        "videomae/train/optimizer.py",
        "decayed = parameter.ndim > 1 and name not in UNDECAYED",
        "decayed = name not in UNDECAYED",
        "train/test_optimizer.py::test_vectors_biases_and_the_mask_token_are_not_decayed",
    ),
    Mistake(
        "the running mean forgets as fast as it should remember",
        "videomae/train/average.py",
        "for name in averaged], 1 - self.decay",
        "for name in averaged], self.decay",
        "train/test_average.py::test_the_mean_remembers_its_decay_and_takes_in_the_rest",
    ),
    # The order of the data, and going on
    Mistake(
        "every epoch has the same order",
        LOADER,
        "random_stream(seed, Stream.order, epoch)",
        "random_stream(seed, Stream.order, 0)",
        "data/test_loader.py::test_epochs_and_seeds_have_orders_of_their_own",
    ),
    Mistake(
        "a run that goes on sees the first videos again",
        "videomae/train/trainer.py",
        "self._batches(start + 1, last)",
        "self._batches(1, last)",
        "train/test_resume.py::test_stopped_and_continued_is_the_same_as_never_stopped",
    ),
    Mistake(
        "the row of the step that a run goes on from is lost",
        "videomae/run/log.py",
        'if row["step"] <= step]',
        'if row["step"] < step]',
        "run/test_log.py::test_going_on_cuts_what_was_logged_later",
    ),
    Mistake(
        "a last batch that is not full is not evaluated",
        LOADER,
        "range(rank * batch, num_videos, world * batch)",
        "range(rank * batch, num_videos - batch + 1, world * batch)",
        "data/test_loader.py::test_each_video_is_evaluated_once_by_one_rank",
    ),
    Mistake(
        "a single bad file of a list stops the run",
        "videomae/lists/tolerance.py",
        "num_bad > max(1, max_bad_fraction * num_tried)",
        "num_bad >= max(1, max_bad_fraction * num_tried)",
        "lists/test_tolerance.py::test_more_than_one_file_and_more_than_the_share",
    ),
    # What weights are used with
    Mistake(
        "an exp changes the sampling that weights were trained with",
        "videomae/weights/usage.py",
        "        sampling = own\n",
        "        own = sampling\n",
        "test_uses.py::test_predict_and_evaluate_agree_on_every_video",
    ),
    Mistake(
        "an exp changes the clip that weights were trained with",
        "videomae/weights/usage.py",
        "        if told.itself(key):\n",
        "        if told.itself(key) or told.exp:\n",
        "test_uses.py::test_an_exp_changes_neither_clip_nor_model_nor_classes",
    ),
    Mistake(
        "kept features of one pack are taken for another's",
        "videomae/evaluation/probe_features.py",
        "        | of_pack(data)\n",
        "",
        "test_probe.py::test_features_of_a_pack_are_those_of_that_pack",
    ),
    # Packs
    Mistake(
        "a video of a pack begins with its header in the archive",
        "videomae/video/packing.py",
        '"offset": offset + BLOCK',
        '"offset": offset',
        "test_pack.py::test_training_and_evaluation_read_packs_as_they_read_files",
    ),
    Mistake(
        "frames of a packed video are numbered from 1",
        "videomae/video/packed.py",
        "times = range(0, self.count * step, step)",
        "times = range(step, (self.count + 1) * step, step)",
        "test_pack.py::test_any_frames_in_any_order_are_exact",
    ),
    # What is measured and logged
    Mistake(
        "the mean of the classes is that of the videos",
        METRICS,
        '"mean_class_accuracy": float(np.mean(present))',
        '"mean_class_accuracy": _percent(self.correct(1))',
        "evaluation/test_metrics.py::test_results_of_the_table",
    ),
    Mistake(
        "an unreadable video is right where every class is asked for",
        METRICS,
        "return found & self.readable",
        "return found",
        "evaluation/test_metrics.py::"
        "test_an_unreadable_video_is_wrong_even_where_every_class_is_asked_for",
    ),
    Mistake(
        "logits are averaged over the views, not probabilities",
        "videomae/evaluation/heads.py",
        "return outputs.softmax(1)",
        "return outputs",
        "test_commands.py::test_a_prediction_is_the_mean_over_the_views_of_the_model_at_rest",
    ),
    Mistake(
        "the speed logged counts videos, not views",
        THROUGHPUT,
        "self.steps.plan.views_per_step * steps / elapsed",
        "self.steps.plan.global_batch * steps / elapsed",
        LOGGED,
    ),
    Mistake(
        "the time that checkpoints take is part of the steps",
        THROUGHPUT,
        "self._interval.start += seconds",
        "self._interval.start += 0 * seconds",
        LOGGED,
    ),
    Mistake(
        "the gradient's norm is logged of the sum over the batch",
        STEP,
        "grad_norm = whole_tensor(get_total_norm(gradients))\n",
        "grad_norm = whole_tensor(get_total_norm(gradients)) * total.float()\n",
        LOGGED,
    ),
    # Which clips a corpus holds
    Mistake(
        "a clip whose score was not measured is kept",
        CURATE["selection"],
        "judge(rule.name, rule.drops(values), np.isnan(values))",
        "judge(rule.name, rule.drops(values), np.zeros_like(values, bool))",
        "curate/test_selection.py::test_a_missing_score_is_neither_kept_nor_dropped",
    ),
    Mistake(
        "a largest value drops what lies below it",
        CURATE["rules"],
        "else values > self.threshold",
        "else values < self.threshold",
        "curate/test_selection.py::test_each_rule_drops_what_lies_beyond_its_threshold_only",
    ),
    Mistake(
        "cuts must be one frame further apart than PySceneDetect's",
        CURATE["cuts"],
        "calm = index - last >= self.min_frames",
        "calm = index - last > self.min_frames",
        "curate/test_cuts.py::test_changes_become_cuts_as_in_the_library",
    ),
    Mistake(
        "a scene ends before the first frame of a transition, which is still of it",
        CURATE["transnet"],
        "yield Cut(number + 1 if number else 0, begins=False)",
        "yield Cut(number, begins=False)",
        "curate/test_transnet.py::test_clips_are_the_scenes_of_the_authors_code",
    ),
    Mistake(
        "the network is asked of frames that it was not meant to tell of",
        CURATE["transnet"],
        "scores[0, BEFORE : BEFORE + KNOWN, 0]",
        "scores[0, :KNOWN, 0]",
        "curate/test_transnet.py::test_probabilities_are_those_of_the_authors_code",
    ),
    Mistake(
        "pictures at the end of a run are of forgotten videos, too",
        "videomae/evaluation/attention.py",
        "kept = clips.kept()",
        "kept = np.arange(len(clips))",
        "test_tombstones.py::test_the_pictures_at_the_end_of_a_run_are_of_videos_that_are_left",
    ),
    Mistake(
        "a clip leaves out its last frame",
        CURATE["measuring"],
        "self.end, self.last_s = index + 1, time_s",
        "self.end, self.last_s = index, time_s",
        "curate/test_measuring.py::test_clips_cover_each_frame_once_and_count_as_the_reader_does",
    ),
    Mistake(
        "motion is that of a pair of frames, not of a second",
        CURATE["scores"],
        "/ (time_s - began_s))",
        "/ 1.0)",
        "curate/test_measuring.py::test_motion_is_the_planted_speed",
    ),
    Mistake(
        "colours of BT.709 are converted as those of BT.601",
        CURATE["picture"],
        "KR_KB.get(colour_space, BT601)",
        "KR_KB.get(0, BT601)",
        "curate/test_picture.py::test_halved_frames_are_those_of_the_scaler",
    ),
    Mistake(
        "the death of a process that others killed counts against its video",
        "videomae/run/worker_pool.py",
        'OUTSIDE = ("SIGKILL", "SIGTERM",',
        'OUTSIDE = ("SIGTERM",',
        "curate/test_engine.py::test_a_kill_from_outside_does_not_count",
    ),
    Mistake(
        "a program that decodes is replaced a request later",
        "videomae/run/worker_pool.py",
        "program.num_requests >= MOST_REQUESTS",
        "program.num_requests > MOST_REQUESTS",
        "run/test_worker_pool.py::test_a_program_is_replaced_after_so_many_requests",
    ),
    Mistake(
        "a forgotten clip comes back when its video is measured again",
        "videomae/curate/measurement.py",
        "shards.forget(*forgotten, looked_at=looked_at)",
        "shards.forget(set(), set(), looked_at=looked_at)",
        "curate/test_forget.py"
        "::test_a_forgotten_clip_of_a_video_that_is_measured_again_does_not_come_back",
    ),
    Mistake(
        "of several hashtags the most frequent counts",
        CURATE["subsets"],
        "key=lambda t: (count[t], t)",
        "key=lambda t: (-count[t], t)",
        "curate/test_subsets.py::test_balanced_lists_have_as_many_clips_of_each_hashtag_as_can_be",
    ),
    # What the page tells
    Mistake(
        "the weights of judged clips do not count",
        "videomae/run/shares.py",
        "return Share(100 * have / total, ",
        "return Share(100 * sum(right) / len(right), ",
        "curate/test_page.py::test_weights_count",
    ),
    Mistake(
        "what a sample outside misses is not allowed for",
        "videomae/run/shares.py",
        "most_ratio = (product + root) / above[0] if above[0] else math.inf",
        "most_ratio = found_out / found_in if found_in else math.inf",
        "run/test_shares.py::test_what_a_small_sample_misses_is_allowed_for",
    ),
    Mistake(
        "a dropped clip counts for its most frequent reason",
        "videomae/curate/judging.py",
        "for rows in sorted(corpus.dropping.values(), key=len):",
        "for rows in sorted(corpus.dropping.values(), key=len)[::-1]:",
        "curate/test_page.py::test_a_clip_of_several_reasons_is_drawn_for_the_rarest",
    ),
    # What is a duplicate
    Mistake(
        "clips that look alike are copies, however they move",
        "videomae/curate/duplicates.py",
        "if found is None or not is_copy(found, at):",
        "if found is None:",
        "curate/test_duplicates.py::test_a_camera_at_another_time_is_no_copy_though_it_looks_alike",
    ),
    Mistake(
        "a copy that begins later is said to begin earlier",
        "videomae/curate/alignment.py",
        "(phase - shift * speed)",
        "(phase + shift * speed)",
        "curate/test_duplicates.py::test_when_and_how_fast_a_copy_is",
    ),
    Mistake(
        "mirrored motion is turned upside down",
        "videomae/curate/alignment.py",
        "cells = cells[..., ::-1]",
        "cells = cells[..., ::-1, :]",
        "curate/test_duplicates.py::test_when_and_how_fast_a_copy_is",
    ),
    Mistake(
        "the blurred one of a group is kept",
        "videomae/curate/duplicates.py",
        "-sharpness if sharpness is not None",
        "sharpness if sharpness is not None",
        "curate/test_duplicates.py::test_the_kept_one_is_the_largest_then_the_sharpest_then_the_first",
    ),
    Mistake(
        "times of contamination are those of the wrong side",
        "videomae/curate/contamination.py",
        "found.alignment.turned()",
        "found.alignment",
        "curate/test_contamination.py::test_either_side_may_be_the_crop",
    ),
    Mistake(
        "a copy is dropped because of a better one that is dropped, too",
        CURATE["selection"],
        "gone = 2 * decision.dropped + decision.undecided",
        "gone = np.zeros(table.num_rows)",
        "curate/test_selection.py::test_of_copies_the_best_that_no_other_rule_drops_is_kept",
    ),
    Mistake(
        "measurements without a column of today count as measured",
        "videomae/curate/shards.py",
        "if table is not None:\n                outdated",
        "if table is None:\n                outdated",
        "curate/test_duplicate_groups.py::test_what_was_measured_without_fingerprints_is_measured_again",
    ),
    Mistake(
        "text is drawn into the pictures of the other edits, too",
        "videomae/curate/edited_copies.py",
        "picture = picture.copy()",
        "picture = np.ascontiguousarray(picture)",
        "curate/test_contaminating.py::test_edits_change_the_picture_as_their_names_say",
    ),
    Mistake(
        "when a clip begins in a test video has the wrong sign",
        "videomae/curate/contaminating.py",
        "round(piece.start_s + how.offset_s, 3)",
        "round(piece.start_s - how.offset_s, 3)",
        "curate/test_contaminating.py::test_clips_that_show_a_test_video_are_found_and_dropped",
    ),
)
