"""The field's data sets in small: their folders, files and columns as they are shipped, with
content made up here."""

ANNOTATIONS = "annotations/annotations averaged per song"
DYNAMIC = f"{ANNOTATIONS}/dynamic (per second annotations)"
STATIC = f"{ANNOTATIONS}/song_level/static_annotations_averaged_songs"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_files(root, texts, audio):
    for name, text in texts.items():
        write(root / name, text)
    for name in audio:
        write(root / name, b"audio")
    return root


def make_4q(folder):
    """Five songs: one is missing, one is not annotated; two are of an artist whose name is not
    UTF-8."""
    songs = {"MT0000000001": "Q1", "MT0000000002": "Q2", "MT0000000003": "Q3", "MT0000000004": "Q4"}
    artists = ["Ren\xe9", "Ren\xe9", 'Crosby, "Stills" & Nash', "Fourth", "Fifth"]
    ids = [*songs, "MT0000000005"]
    names = [
        "Song",
        "Artist",
        "Title",
        "Quadrant",
        "PQuad",
        "MoodsTotal",
        "Moods",
        "MoodsFoundStr",
        "MoodsStr",
    ]
    metadata = ",".join(f'"{name}"' for name in names) + "\n"
    for song, artist in zip(ids, artists, strict=True):
        quoted = artist.replace('"', '""')
        metadata += (
            f'"{song}","{quoted}","A title, with a comma","Q1",0.7,3,2,"Happy; Bright","Happy;'
            ' Bright; Loud"\n'
        )
    return write_files(
        folder / "MER_audio_taffc_dataset",
        {
            "panda_dataset_taffc_annotations.csv": (
                "Song,Quadrant\n" + "".join(f"{s},{q}\n" for s, q in songs.items())
            ),
            "panda_dataset_taffc_metadata.csv": metadata.encode("latin-1"),
            "readme.txt": "Panda et al.: \u201cNovel audio features\u201d".encode("cp1252"),
        },
        [
            "Q1/MT0000000001.mp3",
            "Q2/MT0000000002.mp3",
            "Q4/MT0000000004.mp3",
            "Q4/MT0000000005.mp3",
        ],
    )


def make_pmemo(folder):
    """Clips 1, 4, 5, 9 in the quadrants' order, 12 at the midpoint of arousal; 20 has no static
    labels."""
    static = "musicId,Arousal(mean),Valence(mean)\n"
    static += "1,0.8,0.9\n4,0.7,0.2\n5,0.1,0.3\n9,0.4,0.6\n12,0.5,0.6\n"
    frames = [
        (15.0, 0.8, 0.9),
        (15.5, 0.7, 0.9),
        (16.0, 0.6, 0.4),
        (17.0, 0.6, 0.4),
        (17.5, 0.5, 0.4),
    ]
    dynamic = "".join(f"1,{time_s},{arousal},{valence}\n" for time_s, arousal, valence in frames)
    artists = {
        1: "Calvin Harris",
        4: "Calvin Harris",
        5: "Adele",
        9: "Sia",
        12: "Lorde",
        20: "Lorde",
    }
    metadata = "".join(
        f'{i},{i}.mp3,"A title",{artist},An album,49.1,01:00,01:49\n'
        for i, artist in artists.items()
    )
    return write_files(
        folder / "PMEmo2019",
        {
            "annotations/static_annotations.csv": static,
            "annotations/static_annotations_std.csv": (
                "musicId,Arousal(std),Valence(std)\n1,0.1,0.1\n"
            ),
            "annotations/dynamic_annotations.csv": (
                "musicId,frameTime,Arousal(mean),Valence(mean)\n" + dynamic
            ),
            "metadata.csv": (
                "musicId,fileName,title,artist,album,duration,chorus_start_time,chorus_end_time\n"
                + metadata
            ),
        },
        [f"chorus/{clip}.mp3" for clip in artists],
    )


def make_emomusic(folder):
    """Songs 2, 3, 4, 5 in the quadrants' order, 7 at the midpoint of valence; 5 and 7 are for
    evaluation."""
    samples = "song_id," + ",".join(f"sample_{ms}ms" for ms in (15000, 15500, 16000)) + "\n"
    info = (
        "song_id,file_name,Artist,Song title,start of the segment (min.sec),end of the segment"
        " (min.sec),Genre,"
    )
    info += "Mediaeval 2013 set\n"
    for song, challenge in {
        2: "development",
        3: "development",
        4: "development",
        5: "evaluation",
        7: "evaluation",
    }.items():
        artist = "\tThe Troubadours, Inc.\t" if song < 4 else f"\tBand {song}\t"
        info += (
            f'{song},"\t{song}.mp3\t","{artist}","\tA'
            f' song\t",2.04,2.49,"\tBlues\t","\t{challenge}\t"\n'
        )
    static = "song_id,mean_arousal,std_arousal,mean_valence,std_valence\n"
    static += "2,6.1,1.2,5.9,1.3\n3,6,1,4.1,1\n4,3,1,2.5,1\n"
    return write_files(
        folder / "emomusic",
        {
            "annotations/static_annotations.csv": static + "5,2.8,1,5.1,1\n7,8,1,5,1\n",
            "annotations/arousal_cont_average.csv": samples + "2,0.2,0.3,0.3\n3,-0.1,0,0.1\n",
            "annotations/valence_cont_average.csv": samples + "2,0.1,0.1,-0.1\n3,0.4,0.4,0.4\n",
            "songs_info.csv": info,
        },
        [f"clips_45seconds/{song}.mp3" for song in (2, 3, 4, 5, 7)],
    )


def make_deam(folder):
    """Songs 2, 3, 1001, 2001 in the quadrants' order; the metadata lies beside the annotations as
    it is unpacked."""
    static = (
        "song_id, valence_mean, valence_std, arousal_mean, arousal_std\n2, 5.9, 1.3, 6.1, 1.2\n3,"
        " 4, 1, 6, 1\n"
    )
    late = (
        "song_id, valence_mean, valence_std, valence_max_mean, valence_max_std, valence_min_mean,"
        " valence_min_std, "
    )
    late += (
        "arousal_mean, arousal_std, arousal_max_mean, arousal_max_std, arousal_min_mean,"
        " arousal_min_std\n"
    )
    times = "song_id," + ",".join(f"sample_{ms}ms" for ms in range(15000, 17500, 500)) + "\n"
    return write_files(
        folder / "DEAM",
        {
            f"DEAM_Annotations/{STATIC}_1_2000.csv": static + "1001, 3.5, 1, 2.5, 1\n",
            f"DEAM_Annotations/{STATIC}_2000_2058.csv": (
                late + "2001, 7, 1, 8, 1, 4, 1, 3, 1, 4, 1, 1, 1\n"
            ),
            f"DEAM_Annotations/{DYNAMIC}/arousal.csv": (
                times + "2,0.2,0.3\n2001,-0.1,-0.1,-0.1,-0.1,-0.1\n"
            ),
            f"DEAM_Annotations/{DYNAMIC}/valence.csv": (
                times + "2,0.1,0.1\n2001,0.3,0.2,0.3,0.2,0.3,0.9\n"
            ),
            "metadata/metadata_2013.csv": (
                'song_id,file_name,Artist\n2,2.mp3,"\tNobody\t"\n3,3.mp3,"\tNobody\t"\n'
            ),
            "metadata/metadata_2014.csv": (
                "Id,Artist,Album,Track,Genre\n1001,Someone,x,x,Pop,more,and,more,tags\n"
            ),
            "metadata/metadata_2015.csv": "id,Filename,title,artist,album\n2001,x.mp3,x,Anyone,x\n",
        },
        [f"DEAM_audio/MEMD_audio/{song}.mp3" for song in (2, 3, 1001, 2001)],
    )


MAKERS = {"4q": make_4q, "pmemo": make_pmemo, "emomusic": make_emomusic, "deam": make_deam}
