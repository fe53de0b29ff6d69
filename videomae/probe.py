"""Compare encoders in minutes: k-NN, linear and attentive probes on their frozen features.

    python -m videomae.probe weights=RUN_OR_FILE data.classes=N \\
        data.train_list=LIST data.test_list=LIST data.root=VIDEOS output_dir=DIR

weights= is of any released kind: of a pre-training, a classifier, an encoder alone; or scratch, a
random encoder of model= for the baseline. Model, frames, stride, size and sampling are those of the
weights; what they do not hold, as pre-trained ones hold no sampling, comes from data=, and an
override on the command line, such as data.clip.stride=8, is used and told. Of each video the
encoder sees the middle clip, its centre cut out, once: the features are kept in
output_dir/features, and a second run, or one that goes on after a kill, reads what is there.

    data.prepared=DIR data.split=1       lists, root and classes from python -m videomae.prepare
    probe.kinds=[knn,linear,attentive]   which ones. attentive keeps every token on disk
    probe.views=N                        views of each training video
    probe.k=20 probe.temperature=0.07    knn, as in DINO
    probe.lrs=[1e-4,...]                 linear, attentive: the rates tried, see below
    probe.min_steps=1000                 linear, attentive: on short lists, more epochs
    overwrite=true                       replace the results; the features are kept

linear is one linear map of the mean token, standardised; attentive a learned query with one
cross-attention block over all tokens, as in V-JEPA. Their learning rate is the best on a held-out
fifth of the training list, never on the test list; then they are fitted again on all of it. A test
video that cannot be read counts as wrong, a training video is left out; both are listed in
bad_files.jsonl. Writes results.json, an entry for each probe.
"""

from dataclasses import replace

from videomae.config import SCRATCH, ProbeConfig
from videomae.run.command import command


def probe(config: ProbeConfig) -> None:
    """Fit probes on the features of the encoder at config.weights, and write their results."""
    from videomae.data.checks import labelled_clips, warn_of_shared
    from videomae.data.forgetting import warn_of_unmatched
    from videomae.data.trained_on import warn_of_seen
    from videomae.evaluation import probe_features, probe_results
    from videomae.evaluation.features import FeatureExtractor
    from videomae.evaluation.kept_features import keep_features
    from videomae.lists.names import class_names
    from videomae.lists.prepared import with_prepared
    from videomae.run.bad_files import TEST, TRAIN, add_bad_files
    from videomae.run.checks import check_precision, require
    from videomae.run.given import given
    from videomae.run.run import open_run
    from videomae.video.opening import check_decoder

    told = given(config)
    config = replace(config, data=with_prepared(config.data, told))
    check_precision(config.run)
    require(config, "data.train_list", "data.test_list", "data.root", "data.classes", "weights")
    check_decoder(config.data.decoder)
    with open_run(config.run, config.output_dir) as run:
        directory = run.directory
        probe_features.check_output(directory, overwrite=config.overwrite)
        names = class_names(config.data)
        lists = {key: labelled_clips(config.data, key) for key in ("train_list", "test_list")}
        warn_of_unmatched({f"data.{name}": clips for name, clips in lists.items()})
        others = {"data.train_list": lists["train_list"]}
        shared = warn_of_shared(lists["test_list"], "data.test_list", others)
        if config.weights == SCRATCH:
            frozen = probe_features.random_encoder(config)
        else:
            frozen = probe_features.saved_encoder(config, told)
            if run.is_main:
                shared |= warn_of_seen(str(config.weights), lists["test_list"], config.data.root)
        run.processes.barrier()  # every process has looked before anything changes

        if run.is_main:
            probe_features.begin_results(run, config, frozen)
        encoder = FeatureExtractor(frozen.model, run.device, config.run.precision)
        train, test = (
            probe_features.list_features(run, config, encoder, frozen, clips, key)
            for key, clips in lists.items()
        )
        if run.is_main:
            add_bad_files(directory, train.bad, TRAIN)
            add_bad_files(directory, test.bad, TEST)
            keep_features(directory, test, lists["test_list"])
            both = list(lists.values())
            results = probe_results.fit_and_score(config, encoder, train, test, both, names)
            probe_results.write_results(run, results, shared, len(lists["test_list"]))


main = command("probe")(probe)

if __name__ == "__main__":
    main()
