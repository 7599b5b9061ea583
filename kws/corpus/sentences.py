"""Everyday sentences without a keyword of the default task, or a word that sounds like one.

Many of their words begin or end like a keyword: "stopped", "going", "yesterday", "nobody", "alright", "often", "upon".
"""
from __future__ import annotations

import re
from typing import Iterable, Sequence

# Said by the voices that train.
FOR_TRAINING = tuple("""
She stopped by the window and waited.
They are going home before it rains.
Yesterday we painted the kitchen table.
Nobody told me about the meeting.
The station is near the old bridge.
He often reads before breakfast.
Her brother wore a bright yellow coat.
Downtown is crowded every Saturday.
The uppermost shelf is hard to reach.
I noticed a light in the garden.
The leftovers are in the fridge.
Nothing beats a warm bowl of soup.
My neighbour offered us some apples.
It was a frightening story for children.
The goldfish swims in slow circles.
Please bring the letter to the office.
An open door lets the cold air in.
We stood at the top of the hill.
The road was narrow and full of stones.
His notebook was lying under the chair.
All the shops close at seven tonight.
The cup fell and broke at once.
A goat was eating the flowers.
Downstairs somebody was playing the piano.
It might be better to ask the teacher.
The horse galloped across the field.
There is snow upon the mountains.
Only one ticket remained at the counter.
They wrote a song about the harbour.
The soft pillow smelled of lavender.
Her glasses were in the yellow box.
I never liked the taste of coffee.
The town council voted against the plan.
A group of tourists followed the guide.
The lifeguard watched the children play.
The crown was made of paper.
Someone knocked at the kitchen door.
Our supper was ready before eight.
He drove slowly along the coast.
The shop sells honey and fresh bread.
My oldest cousin works at a bakery.
It is honest work, and it pays well.
A spider dropped from the ceiling.
The envelope contained a short note.
Normally the train arrives at noon.
The weather was gloomy all week.
We grow tomatoes behind the garage.
They laughed at the clown's red nose.
The government lowered the tax again.
She found a golden ring in the sand.
The professor explained it twice.
A cloud drifted over the valley.
Her guess was surprisingly close.
The upright piano needs a new string.
I will probably stay until Wednesday.
Ten people applied for the job.
He coughed and closed the book.
The puppy slept beside the stove.
Stopping here would be dangerous.
The boat floated gently with the tide.
My coffee is getting cold again.
They own a small farm in the north.
She dressed in her warmest clothes.
The frown disappeared from his face.
He brought a bottle of lemonade.
Every evening the bells begin to ring.
The yellow taxi turned at the corner.
It takes an hour to drive to the lake.
Nowadays few people send postcards.
The orchestra played without a conductor.
Another storm is expected tomorrow.
The dress was brown with white buttons.
A knight in armour guarded the gate.
We offered them tea and biscuits.
The goalkeeper caught the ball easily.
Her yearly report was finished early.
The lesson ended with a short test.
Upstairs the baby began to cry.
He drowned his pancakes in syrup.
The doctor checked his blood pressure.
You must have forgotten your umbrella.
A gopher dug holes beneath the lawn.
This recipe needs butter and sugar.
The photographer waited for the sunset.
We rode our bicycles to the village.
The noisy crowd filled the square.
Lift the lid carefully with a cloth.
The best answer was also the shortest.
The theft was reported to the police.
He is the tallest boy in the class.
They shared a sandwich in the park.
The clock in the hall has stopped.
My grandmother knitted these gloves.
A heavy stone blocked the path.
The teacher's handwriting was tiny.
Stay close, or we may lose you.
The yeast makes the dough rise.
Let us meet after the concert.
The nightmare was over at last.
Some of the chocolate had melted.
He wanted to become a goldsmith.
The library opens again in autumn.
She poured hot water over the leaves.
The longest river flows to the south.
Both windows face the railway.
A pony trotted around the ring.
The supply of paper is running low.
We rented a cottage by the sea.
The kids are drawing with chalk.
That noble family moved abroad.
He shrugged and walked away.
A loaf of bread costs three coins.
The owner unlocked the heavy gate.
Rain drummed against the tin roof.
His laughter echoed through the hall.
""".strip().splitlines())

# Said by the voices that test.
FOR_TESTING = tuple("""
The bus stopped outside the museum.
We are going to need more chairs.
The yellow kite got stuck in a tree.
Nobody answered the telephone.
She often sings while cooking.
The rope was too short to reach.
A bright star appeared above the roof.
The gardener planted roses and tulips.
He wrote his name in the notebook.
The countdown began at midnight.
My supper is still in the oven.
It was the softest blanket she had.
The owner of the shop was friendly.
They offered him a place to stay.
Nothing happened for almost an hour.
The upper floor is being repaired.
A frog hopped across the path.
Yesterday's newspaper is under the bench.
The ghost story frightened everybody.
His report was longer than expected.
The brown dog slept in the shade.
An honest mistake is easily forgiven.
We drove through a long tunnel.
The postman delivered three parcels.
Her hair was covered with snow.
The lonely road led to a lighthouse.
The coffee shop closes at nine.
A flock of geese flew over the lake.
Please fold the towels neatly.
The children copied every word.
He leapt over the narrow stream.
The golden watch belonged to her uncle.
I almost missed the last train.
The noodles were cooked too long.
The crowd cheered for the winner.
Tonight the moon will be full.
Several letters arrived this morning.
The dentist told him to relax.
A cupboard full of plates fell over.
The river floods the meadow in spring.
Their son studies music in Vienna.
The guard wore a heavy overcoat.
She guessed the answer immediately.
We stored the apples in the cellar.
The donkey carried two baskets.
My gloves are in the drawer.
The topic of the lecture was weather.
A loud noise woke the neighbours.
He slowly opened the wooden box.
""".strip().splitlines())


def without(sentences: Sequence[str], keywords: Iterable[str]) -> list[str]:
    """Leave out the sentences in which one of the keywords, of one or more words, stands as it is written."""
    said = [f" {_words(keyword)} " for keyword in keywords]
    return [text for text in sentences if not any(keyword in f" {_words(text)} " for keyword in said)]


def _words(text: str) -> str:
    """Reduce a text to its words: lower case, one space between them; parts of compounds are words too."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))
