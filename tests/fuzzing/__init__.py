"""The fuzzing harness: damaged and hostile files of every kind through the code that users use.

    mutations, documents, archives   what is done to bytes, to JSON and text, to weights and packs
    attacks                          files made by hand, of kinds that mutations hardly find
    weights, checkpoints, runs, packs, lists, progress, videos
                                     undamaged originals, and an attempt to use a changed copy
    targets                          all of them, by kind
    server, guard                    one process for each attempt: its time, memory, words and end
    watch                            what an attempt opened and whom it called, from strace's log
    campaign                         thousands of attempts and a table; scripts/soak.py fuzz runs it

Everything follows from a seed, a kind and a number, so that one attempt can be repeated alone.
"""
